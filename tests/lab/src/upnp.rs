//! The part of a router that opens ports on request (UPnP-IGD): a real miniupnpd.

use std::{fs, net::Ipv4Addr, path::Path};

use crate::{
    Error, Process,
    namespace::{DEVICE, Namespace},
    nat::NETWORK,
};

/// The chains that miniupnpd writes into, and the table that they are in (see [`crate::Nat`]).
pub(crate) const TABLE: &str = "lab";
pub(crate) const CHAINS: [&str; 3] = ["upnp_forward", "upnp_dnat", "upnp_snat"];

/// Starts it in the router's namespace, whose outer address is this. It ends with what is returned.
pub(crate) fn start(outside: &Namespace, address: Ipv4Addr, directory: &Path) -> Result<Process, Error> {
    let [forward, dnat, snat] = CHAINS;
    // Its own name in the house; who asks may open ports for itself only.
    let config = format!(
        "ext_ifname={DEVICE}\next_ip={address}\nlistening_ip=lan0\nenable_upnp=yes\nenable_natpmp=no\nsecure_mode=yes\n\
         uuid=7b4f2c1e-5d0a-4b43-9a37-0c0ffee00001\nupnp_table_name={TABLE}\nupnp_nat_table_name={TABLE}\n\
         upnp_forward_chain={forward}\nupnp_nat_chain={dnat}\nupnp_nat_postrouting_chain={snat}\n\
         allow 1024-65535 {NETWORK} 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
    );
    let file = |end: &str| directory.join(format!("{}.{end}", outside.name()));
    let path = file("upnp");
    fs::write(&path, config).map_err(Error::io(path.display().to_string()))?;
    let arguments = ["-d", "-f", &path.display().to_string(), "-P", &file("pid").display().to_string()];
    // Who asks for a router asks again until one answers (SSDP), so nothing waits until it is there; and a test in which none ever is fails.
    Process::spawn(outside, Path::new("miniupnpd"), &arguments.map(str::to_owned), &file("log"))
}
