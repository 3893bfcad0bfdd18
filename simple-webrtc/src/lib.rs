//! PeerConnections keyed by the peer's name, with shared tracks.
