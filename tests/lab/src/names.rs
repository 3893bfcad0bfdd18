//! A real DNS server (dnsmasq) on a host.

use std::{net::IpAddr, path::Path};

use crate::{Error, Host, Lab, Process};

/// Answers for the names that it was given, until it is dropped. Of all others it says that they do not exist.
#[derive(Debug)]
pub struct Names {
    /// Ended with this.
    _process: Process,
    address: IpAddr,
}

impl Names {
    /// Starts it on a host, with the texts (TXT) of one name.
    ///
    /// # Errors
    /// If dnsmasq is missing.
    pub fn start(lab: &Lab, host: &Host, name: &str, texts: &[String]) -> Result<Self, Error> {
        let address = IpAddr::from(host.v4(1));
        let fixed = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--user=root",
            "--pid-file",
        ];
        let mut arguments = fixed.map(str::to_owned).to_vec();
        arguments.push(format!("--listen-address={address}"));
        arguments.extend(texts.iter().map(|text| format!("--txt-record={name},{text}")));
        // Who asks before it listens asks again.
        let process = host.spawn(Path::new("dnsmasq"), &arguments, &lab.directory().join("names.log"))?;
        Ok(Self { _process: process, address })
    }

    /// Where it is asked.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
}
