//! A `blink relay` on a public host: what two who know nothing of each other but a key meet at.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{Error, Host, Key, Lab, Process, phone::blink};

/// What its start may take: ten times what it takes on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(30);
/// The usual port of such nodes.
const PORT: u16 = 4001;
/// The usual port of TURN (RFC 8656, section 4).
const TURN_PORT: u16 = 3478;

/// A node that others find each other through, and reach each other through. It ends with this.
#[derive(Debug)]
pub struct Bootstrap {
    process: Process,
    addresses: Vec<String>,
    did: String,
}

impl Bootstrap {
    /// Starts it on a host, over both transports in both families. With `friends` it relays their sound too, at that address.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(lab: &Lab, host: &Host, friends: Option<(IpAddr, &[Key])>) -> Result<Self, Error> {
        let mut arguments: Vec<String> = ["relay", "--json"].map(String::from).into();
        for any in ["/ip4/0.0.0.0", "/ip6/::"] {
            for transport in [format!("tcp/{PORT}"), format!("udp/{PORT}/quic-v1")] {
                arguments.extend(["--listen".into(), format!("{any}/{transport}")]);
            }
        }
        if let Some((turn, friends)) = friends {
            let dids: Vec<_> = friends.iter().map(Key::did).collect();
            let turn = SocketAddr::new(turn, TURN_PORT).to_string();
            arguments.extend(["--turn".into(), turn, "--friends".into(), dids.join(",")]);
        }
        let process = host.spawn(&blink()?, &arguments, &lab.directory().join("bootstrap.log"))?;
        let ready = process.wait_for("ready", PATIENCE)?;
        let addresses = ready["addresses"].as_array().into_iter().flatten();
        let addresses = addresses.filter_map(|address| address.as_str()).map(str::to_owned).collect();
        let did = ready["did"].as_str().unwrap_or_default().to_owned();
        Ok(Self { process, addresses, did })
    }

    /// Its addresses of one host and family, as others name it: both transports.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Vec<String> {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        let begin = format!("/{family}/{address}/");
        self.addresses.iter().filter(|address| address.starts_with(&begin)).cloned().collect()
    }

    /// Its key, by which friends name it.
    #[must_use]
    pub fn did(&self) -> &str {
        &self.did
    }

    /// It dies without a word.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
