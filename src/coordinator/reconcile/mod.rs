//! Sessions with agents and passes over keystores; implements `ops::fleet::Fleet`.
