//! THE MODULE HOST: a child process that alone loads the vendor's PKCS#11 library.
//!
//! Owns: the child's life, the bytes between parent and child, deadlines, and what a late or dead child means.
//! Never: knows PKCS#11 (the child is given what opens the token), decides what to do after an unknown outcome, or
//! keeps a PIN.
//!
//! ```text
//!            a job comes               Opened
//!   Idle ───────────────────▶ Starting ──────▶ Running ──▶ Idle (stopped)
//!                              │   ▲             │ late, died, garbage
//!      WrongPin, NoToken, ...  ▼   │ a job, after the pause
//!                             Refused / Down ◀───┘
//! ```
//!
//! One job is in the child at a time; the others wait in the parent, so that after a death exactly one outcome is
//! Unknown and all others are known not to have begun. The child finishes the call under way when its parent is gone:
//! a kill in the midst of a write can cost SoftHSM2 the object (facts-pkcs11.md G7), and in C_Login the token.

pub mod blocking;
pub mod child;
pub mod frame;
pub mod handle;
pub mod line;
pub mod memory;
pub mod protocol;
pub mod refused_pin;
pub mod supervisor;
