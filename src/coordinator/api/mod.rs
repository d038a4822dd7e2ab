//! The REST API: axum routes, thin over `ops`.
