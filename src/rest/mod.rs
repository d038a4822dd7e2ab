//! BODIES OF THE REST API: what crosses the line between the coordinator and its clients, as serde types.
//!
//! Owns: requests and answers of API v4 (a file per noun) with our additions, the extensions, the error body, the
//! list envelope. Requests refuse fields they do not know; answers may grow, so readers of answers ignore what they
//! do not know. Never: decides, renders, speaks HTTP. Imports `model` only, for the names of its closed enums.

pub mod backup;
pub mod bulk;
pub mod calendar;
pub mod capabilities;
pub mod doctor;
pub mod error;
pub mod extension;
pub mod found;
pub mod kek;
pub mod keystore;
pub mod list;
pub mod managed_key;
pub mod recovery;
pub mod status;
pub mod template;
pub mod vault;
