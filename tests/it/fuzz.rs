//! Whatever is read from outside is read or refused: no panic, no memory without bound, and what was read is written again
//! as the same. From the wire in both directions, from the module host, from the journal, and from a PKCS#11 module.

mod frames;
mod journal;
mod module;
mod wire;
