//! The largest of everything that is read from the wire. Whatever is larger is refused whole, never cut.

/// Largest gRPC message either side takes, bytes. [`UNMANAGED_OBJECTS_MAX`] objects with ordinary labels fit.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most parts of one message: texts, byte strings and messages inside it, at whatever depth. The largest inventory has some
/// 150,000. Two bytes are a part that takes 150 to 400 in memory: without this bound 8 MiB would become more than 1 GiB.
pub const PARTS_MAX: usize = 400_000;

/// Most objects in one `Unmanaged` frame, which always carries all of them.
pub const UNMANAGED_OBJECTS_MAX: usize = 20_000;

/// Most objects in each list of one observation.
pub const FOUND_OBJECTS_MAX: usize = 1_000;

/// Deepest nesting of `suspected_last`: what was seen last for certain is seldom itself suspected.
pub const OBSERVATION_DEPTH_MAX: usize = 4;

/// Most algorithms in one capability report.
pub const KINDS_MAX: usize = 64;

/// Most sizes of one algorithm.
pub const SIZES_MAX: usize = 64;

/// Most usages tried of one algorithm: two classes, nine usages, and what later versions of PKCS#11 add.
pub const USAGE_TRIALS_MAX: usize = 64;

/// Longest sentence for people, bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Longest attribute taken from a token, bytes (threats.md T11).
pub const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// Longest label, bytes: an attribute of which every byte was made printable as `\u{7f}`.
pub const LABEL_BYTES_MAX: usize = 6 * ATTRIBUTE_BYTES_MAX;

/// Longest salt of a vault, bytes; ours have 32.
pub const SALT_BYTES_MAX: usize = 64;

/// Longest SubjectPublicKeyInfo, bytes: RSA-4096 has 550.
pub const SPKI_BYTES_MAX: usize = 4 * 1024;

/// An Ed25519 public key (RFC 8032), bytes.
pub const SIGNER_BYTES: usize = 32;

/// An Ed25519 signature, bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Most wrapping keys of one keystore: one, and two while it is rotated; interrupted rotations may leave some.
pub const KEKS_MAX: usize = 64;
