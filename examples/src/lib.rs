//! The `blink` command, and the demo that it runs. The one-file programs that an app's engineer would copy are in
//! `examples/examples/`; everything here and there uses warp-blink's public API alone.

pub mod cli;
pub mod demo;
