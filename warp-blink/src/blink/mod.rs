//! blink
