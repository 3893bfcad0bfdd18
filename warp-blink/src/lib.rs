//! Calls by public key, with no server in the middle.
