//! The agent's machine beside a tiny token: cases, crashes at every output, and random walks.

mod belief;
mod crash;
mod intents;
mod looks;
mod sessions;
mod slices;
mod token;
mod tokens;
mod walk;
mod world;
