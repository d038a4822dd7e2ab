//! Which steps lead from what was found to what is wanted.
