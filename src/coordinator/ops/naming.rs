//! Naming schemes: a template's text with `<TAG>` places, filled when a key is made.
