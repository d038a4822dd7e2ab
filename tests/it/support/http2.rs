//! One direction of an HTTP/2 connection (RFC 9113), taken apart: what was said, without the framing that could hide it.

use std::collections::BTreeMap;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Characters by the length of their Huffman code (RFC 7541, appendix B), which is canonical. Others are in no header of ours.
const HUFFMAN: [(u32, &str); 11] = [
    (5, "012aceiost"),
    (6, " %-./3456789=A_bdfghlmnpru"),
    (7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, "&*,;XZ"),
    (10, "!\"()?"),
    (11, "'+|"),
    (12, "#>"),
    (13, "\0$@[]~"),
    (14, "^}"),
    (15, "<`{"),
    (19, "\\"),
];

/// What was said.
#[derive(Debug, Default)]
pub struct Said {
    /// The bytes of the DATA frames of each stream, joined.
    pub streams: BTreeMap<u32, Vec<u8>>,
    /// Every name and value of a header or trailer that was not said before on this connection.
    pub headers: Vec<Vec<u8>>,
}

/// Takes all whole frames apart; the last one may be cut off.
pub fn take_apart(bytes: &[u8]) -> Said {
    let mut said = Said::default();
    let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut block = Vec::new();
    while let Some((frame, after)) = next_frame(rest) {
        rest = after;
        match frame.kind {
            DATA => {
                let stream = said.streams.entry(frame.stream).or_default();
                stream.extend_from_slice(frame.content());
            }
            HEADERS | CONTINUATION => {
                block.extend_from_slice(frame.content());
                if frame.flags & END_HEADERS != 0 {
                    said.headers.extend(strings(&std::mem::take(&mut block)));
                }
            }
            _other => {}
        }
    }
    said
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The payload without padding and priority.
    fn content(&self) -> &'a [u8] {
        let mut content = self.payload;
        if self.kind != CONTINUATION && self.flags & PADDED != 0 {
            content = &content[1..content.len() - usize::from(content[0])];
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            content = &content[5..];
        }
        content
    }
}

fn next_frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (payload, rest) = rest.split_at_checked(length)?;
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    let frame = Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload,
    };
    Some((frame, rest))
}

/// The messages of a gRPC stream, each with its compressed flag; the last one may be cut off.
pub fn messages(stream: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    let mut rest = stream;
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some((message, after)) = after.split_at_checked(length) else {
            break;
        };
        found.push((head[0], message));
        rest = after;
    }
    found
}

/// The strings of a header block (RFC 7541, 6). What is said by an index was a string before.
fn strings(block: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = block;
    while let Some(&first) = rest.first() {
        let prefix = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _literal => 4,
        };
        let index = integer(&mut rest, prefix);
        if (0x20..0x40).contains(&first) || first >= 0x80 {
            continue;
        }
        if index == 0 {
            found.push(string(&mut rest));
        }
        found.push(string(&mut rest));
    }
    found
}

fn integer(rest: &mut &[u8], prefix: u32) -> usize {
    let full = (1 << prefix) - 1;
    let mut value = usize::from(take(rest)) & full;
    if value == full {
        for shift in (0..).step_by(7) {
            let byte = take(rest);
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    value
}

fn take(rest: &mut &[u8]) -> u8 {
    let (first, after) = rest.split_first().expect("a whole header block");
    *rest = after;
    *first
}

fn string(rest: &mut &[u8]) -> Vec<u8> {
    let is_huffman = rest[0] & 0x80 != 0;
    let length = integer(rest, 7);
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    if is_huffman {
        plain(bytes)
    } else {
        bytes.to_vec()
    }
}

/// Undoes the Huffman code.
fn plain(coded: &[u8]) -> Vec<u8> {
    let mut codes = BTreeMap::new();
    let (mut next, mut length_before) = (0_u32, 0);
    for (length, characters) in HUFFMAN {
        next <<= length - length_before;
        length_before = length;
        for character in characters.bytes() {
            codes.insert((length, next), character);
            next += 1;
        }
    }
    let mut text = Vec::new();
    let (mut code, mut length) = (0_u32, 0);
    for bit in coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        code = code << 1 | u32::from(bit);
        length += 1;
        assert!(
            length <= 19,
            "a header with a character that is in none of ours"
        );
        if let Some(character) = codes.get(&(length, code)) {
            text.push(*character);
            (code, length) = (0, 0);
        }
    }
    // What is left over is padding: the beginning of a code that is all ones.
    assert!(length < 8 && code == (1 << length) - 1, "a broken header");
    text
}

#[test]
fn headers_are_read_as_the_standard_shows_them() {
    // RFC 7541, C.4.1 and C.4.3: one block after the other on one connection.
    let blocks = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    let read: Vec<String> = blocks
        .iter()
        .flat_map(|block| strings(&lockstep::model::text::from_hex(block).unwrap()))
        .map(|string| String::from_utf8(string).unwrap())
        .collect();
    assert_eq!(read, ["www.example.com", "custom-key", "custom-value"]);
}

#[test]
fn what_is_split_over_frames_is_joined() {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 3], payload].concat()
    };
    let bytes = [
        PREFACE,
        &frame(4, 0, b"settings"),
        &frame(DATA, 0, b"\0\0\0\0\x06one"),
        &frame(DATA, PADDED, b"\x02two??"),
        &frame(HEADERS, PRIORITY, b"-----\x00\x02"),
        &frame(CONTINUATION, END_HEADERS, b"ab\x01c"),
        &frame(DATA, 0, b"cut off")[..12],
    ]
    .concat();
    let said = take_apart(&bytes);
    assert_eq!(said.headers, [b"ab".to_vec(), b"c".to_vec()]);
    assert_eq!(messages(&said.streams[&3]), [(0, &b"onetwo"[..])]);
}
