//! Finds secrets in bytes, however they are written there.

use std::collections::HashMap;

/// Whoever holds this many bytes of a key in a row has half of an AES-256 key. A file may be cut anywhere, so every such piece counts.
pub const PIECE: usize = 16;

/// The secrets to look for.
#[derive(Debug)]
pub struct Secrets {
    pieces: HashMap<[u8; PIECE], String>,
    /// Whether a piece begins with these two bytes: most bytes are ruled out by this alone.
    heads: Vec<bool>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            pieces: HashMap::new(),
            heads: vec![false; 1 << 16],
        }
    }
}

impl Secrets {
    /// One more: at least [`PIECE`] bytes.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= PIECE, "{name} is too short to look for");
        for piece in secret.windows(PIECE) {
            self.heads[head(piece)] = true;
            self.pieces
                .insert(piece.try_into().unwrap(), name.to_owned());
        }
    }

    /// Each secret of which a piece is in the bytes, and how it is written there.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        self.found_by(readings(bytes))
    }

    /// As [`Self::found_in`], as it is and in hexadecimal only: quick enough for all the memory of a process.
    pub fn found_in_memory(&self, bytes: &[u8]) -> Vec<String> {
        let mut read = vec![("as it is", bytes.to_vec())];
        read.extend(hexadecimals(bytes, |_| false));
        self.found_by(read)
    }

    fn found_by(&self, readings: Vec<(&'static str, Vec<u8>)>) -> Vec<String> {
        let mut found = Vec::new();
        for (way, read) in readings {
            for piece in read.windows(PIECE).filter(|piece| self.heads[head(piece)]) {
                if let Some(name) = self.pieces.get(piece) {
                    found.push(format!("{name}, {way}"));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn head(piece: &[u8]) -> usize {
    usize::from(piece[0]) << 8 | usize::from(piece[1])
}

/// The bytes as they are, and what they stand for where they are text. Parts too short to hold a piece are left out.
pub fn readings(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut read = vec![("as it is", bytes.to_vec())];
    read.push(("with escapes", unescaped(bytes, b'\\', b'x')));
    read.push(("percent-encoded", unescaped(bytes, b'%', b'%')));
    read.extend(hexadecimals(bytes, |byte| {
        b" ,:-_\n\r\t\\x".contains(&byte)
    }));
    for run in runs(bytes, base64, |byte| b"\n\r".contains(&byte)) {
        for start in 0..4 {
            read.push(("in base64", octets(&run[start..])));
        }
    }
    read.extend(numbers(bytes).into_iter().map(|run| ("as numbers", run)));
    read.retain(|(_, bytes)| bytes.len() >= PIECE);
    read
}

/// What hexadecimal digits in a row stand for, from the first and from the second digit on.
fn hexadecimals(bytes: &[u8], is_skipped: fn(u8) -> bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut read = Vec::new();
    for run in runs(bytes, hexadecimal, is_skipped) {
        for start in 0..2 {
            let pairs = run[start..].chunks_exact(2);
            let pairs = pairs.map(|two| two[0] << 4 | two[1]);
            read.push(("in hexadecimal", pairs.collect()));
        }
    }
    read
}

/// The values of digits in a row; what is skipped may stand between them, and anything else ends the row.
fn runs(bytes: &[u8], digit: fn(u8) -> Option<u8>, is_skipped: fn(u8) -> bool) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut run = Vec::new();
    for &byte in bytes {
        match digit(byte) {
            Some(value) => run.push(value),
            None if is_skipped(byte) => {}
            None => found.push(std::mem::take(&mut run)),
        }
    }
    found.push(run);
    found.retain(|run| run.len() > PIECE);
    found
}

fn hexadecimal(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Both alphabets of RFC 4648.
fn base64(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _other => None,
    }
}

fn octets(sextets: &[u8]) -> Vec<u8> {
    let fours = sextets.chunks_exact(4);
    let bits = fours.map(|four| four.iter().fold(0, |bits, six| bits << 6 | u32::from(*six)));
    bits.flat_map(|bits| bits.to_be_bytes()[1..].to_vec())
        .collect()
}

/// Lists of numbers up to 255, as JSON and Rust print bytes.
fn numbers(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut run = Vec::new();
    for part in bytes.split(|byte| !byte.is_ascii_digit() && !b", \n\r\t".contains(byte)) {
        for word in part
            .split(|byte| !byte.is_ascii_digit())
            .filter(|word| !word.is_empty())
        {
            let number = std::str::from_utf8(word).unwrap().parse();
            match number {
                Ok(number) => run.push(number),
                Err(_too_large) => found.push(std::mem::take(&mut run)),
            }
        }
        found.push(std::mem::take(&mut run));
    }
    found
}

/// Two hexadecimal digits after the mark, or after mark and letter, become the byte they stand for; of the other escapes in
/// use, those that Rust has.
fn unescaped(bytes: &[u8], mark: u8, letter: u8) -> Vec<u8> {
    let mut read = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let digits = if mark == letter {
            after
        } else {
            after.strip_prefix(&[letter]).unwrap_or(&[])
        };
        let pair = digits
            .first_chunk::<2>()
            .and_then(|two| Some(hexadecimal(two[0])? << 4 | hexadecimal(two[1])?));
        let named = match after.first() {
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b't') => Some(b'\t'),
            Some(b'0') => Some(b'\0'),
            Some(same @ (b'\\' | b'"' | b'\'')) => Some(*same),
            _other => None,
        };
        if first == mark
            && let Some(byte) = pair
        {
            read.push(byte);
            rest = &digits[2..];
        } else if first == mark
            && mark == b'\\'
            && let Some(byte) = named
        {
            read.push(byte);
            rest = &after[1..];
        } else {
            read.push(first);
            rest = after;
        }
    }
    read
}

#[test]
fn a_secret_is_found_however_it_is_written() {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use lockstep::model::text::hex;

    let secret: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(151) ^ 0xa7).collect();
    let mut secrets = Secrets::default();
    secrets.add("key", &secret);
    let after = |count: usize| [vec![b'?'; count], secret.clone()].concat();
    let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
    let check = |way: &str, written: &[u8]| {
        // In the midst of a line of a log, and with a little of it lost at each end.
        let cut = &written[written.len() / 8..written.len() * 7 / 8];
        for written in [written, cut] {
            let line = [b"info: 7 keys: ", written, b" done\n"].concat();
            let found = secrets.found_in(&line);
            let expected = format!("key, {way}");
            assert!(found.contains(&expected), "{way}: {found:?}");
        }
    };
    check("as it is", &secret);
    check("in hexadecimal", hex(&secret).as_bytes());
    check("in hexadecimal", hex(&secret).to_uppercase().as_bytes());
    check("in hexadecimal", format!("{secret:02x?}").as_bytes());
    for count in 0..3 {
        check("in base64", STANDARD.encode(after(count)).as_bytes());
        check("in base64", URL_SAFE_NO_PAD.encode(after(count)).as_bytes());
    }
    check("as numbers", format!("{secret:?}").as_bytes());
    check("as numbers", format!("{secret:#?}").as_bytes());
    check("as numbers", &serde_json::to_vec(&secret).unwrap());
    check("with escapes", secret.escape_ascii().to_string().as_bytes());
    check("percent-encoded", percent.as_bytes());

    secrets.add("PIN", b"0123456789abcdefghijkl");
    let line = b"PIN=23456789abcdefgh&";
    assert_eq!(
        secrets.found_in(line),
        ["PIN, as it is", "PIN, percent-encoded", "PIN, with escapes"]
    );
    let other: Vec<u8> = secret.iter().rev().copied().collect();
    assert_eq!(secrets.found_in(&other), Vec::<String>::new());
    assert_eq!(secrets.found_in(&secret[..PIECE - 1]), Vec::<String>::new());
}
