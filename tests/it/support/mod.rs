//! What several tests need.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "fixtures offer more than each test takes, and live in a binary"
)]

pub mod softhsm;
