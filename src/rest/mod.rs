//! Bodies of the REST API: serde only, shared by `coordinator::api` and `cli`.
