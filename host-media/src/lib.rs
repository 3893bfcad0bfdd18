//! Sound to Opus frames and back.
