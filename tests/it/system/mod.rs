//! The whole of it: real processes, real tokens, mutual TLS, the REST API.

mod adoption;
mod attacks;
mod bulk;
mod drift;
mod drift_policy;
mod feigned;
mod kek_rotation;
mod luck;
mod main_job;
mod makes;
mod partly;
mod probe;
mod repository;
mod restored;
mod secrecy;
mod sharing;
mod strategies;
mod versions;
