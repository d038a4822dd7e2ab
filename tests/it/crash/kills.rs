//! SIGKILL at random.
