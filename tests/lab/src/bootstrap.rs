//! A `blink relay` on a public host: what two who know nothing of each other but a key meet at.

use std::time::Duration;

use crate::{Error, Host, Lab, Process, phone::blink};

/// What its start may take: ten times what it takes on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(30);
/// The usual port of such nodes.
const PORT: u16 = 4001;

/// A node that others find each other through, and reach each other through. It ends with this.
#[derive(Debug)]
pub struct Bootstrap {
    process: Process,
    addresses: Vec<String>,
}

impl Bootstrap {
    /// Starts it on a host, over both transports in both families.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(lab: &Lab, host: &Host) -> Result<Self, Error> {
        let mut arguments: Vec<String> = ["relay", "--json"].map(String::from).into();
        for any in ["/ip4/0.0.0.0", "/ip6/::"] {
            for transport in [format!("tcp/{PORT}"), format!("udp/{PORT}/quic-v1")] {
                arguments.extend(["--listen".into(), format!("{any}/{transport}")]);
            }
        }
        let process = host.spawn(&blink()?, &arguments, &lab.directory().join("bootstrap.log"))?;
        let ready = process.wait_for("ready", PATIENCE)?;
        let addresses = ready["addresses"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|address| address.as_str()).map(str::to_owned).collect();
        Ok(Self { process, addresses })
    }

    /// Its addresses of one host and family, as others name it: both transports.
    #[must_use]
    pub fn at(&self, address: std::net::IpAddr) -> Vec<String> {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        let begin = format!("/{family}/{address}/");
        self.addresses.iter().filter(|address| address.starts_with(&begin)).cloned().collect()
    }

    /// It dies without a word.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
