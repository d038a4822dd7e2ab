//! Crashes of real processes on real tokens (promises 2.2): each process ended, stopped or failed at each named point of each
//! operation, and killed at random while changes run. Afterwards everything is in step by itself, within 10 s, with one set of
//! objects, no lost change, and nothing usable that was said not to be.
//!
//! | variable | says |
//! |---|---|
//! | `CRASH` | `all`: the whole matrix and 200 kills of each kind of process; else a fifth, and 20 |
//! | `CRASH_SEED` | which fifth, and when is killed |
//! | `CRASH_CASE` | this case alone |

mod case;
mod joining;
mod kills;
mod matrix;
mod rig;
mod trial;

/// Whether everything is to be played.
fn is_whole() -> bool {
    std::env::var("CRASH").is_ok_and(|what| what == "all")
}

/// The seed of everything that is chosen.
fn seed() -> u64 {
    std::env::var("CRASH_SEED").map_or(1, |seed| seed.parse().expect("CRASH_SEED is a number"))
}
