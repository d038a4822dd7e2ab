//! The module host: a child process that alone loads the vendor module.
