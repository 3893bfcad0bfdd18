//! The media of a phone that has a network.

use std::net::IpAddr;

use simple_webrtc::{Config, ConfigBuilder, Faults, IceServer};

use crate::{
    driver::media::{Audio, RealMedia},
    error::Error,
};

/// Goes over these addresses and servers; whether only relays are used, and whether they come later; and, for tests, the
/// faults of the network.
pub(super) fn real_media(
    audio: Audio,
    ice: Vec<IpAddr>,
    servers: Vec<IceServer>,
    (relay_only, relays_follow): (bool, bool),
    faults: Option<Faults>,
) -> Result<RealMedia, Error> {
    // Whether any is sent is decided by what is lost.
    let config = Config::builder().redundancy(true);
    let mut config = config.relay_only(relay_only).relays_follow(relays_follow);
    if !ice.is_empty() {
        config = config.addresses(ice);
    }
    if let Some(faults) = faults {
        config = config.faults(faults);
    }
    let config = servers.into_iter().fold(config, ConfigBuilder::ice_server);
    let config = config.build().map_err(|e| Error::Media(e.to_string()))?;
    RealMedia::start(config, audio).map_err(|e| Error::Media(e.to_string()))
}
