//! Status of an instance.
