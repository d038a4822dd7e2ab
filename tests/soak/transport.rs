//! The dress of a transport key. The token in memory has short numbers for keys, and agents trust in RSA of 3,072 bits alone:
//! what the token tells goes out as the modulus of such a key, and comes back as what it was.

use lockstep::model::job::{TokenAnswer, TokenJob, TokenOutcome};

/// DER (RFC 8017, RFC 5280) up to the modulus: rsaEncryption, 3,072 bits.
const HEAD: [u8; 33] = [
    0x30, 0x82, 0x01, 0xa2, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
    0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x8f, 0x00, 0x30, 0x82, 0x01, 0x8a, 0x02, 0x82, 0x01, 0x81,
    0x00,
];

/// The exponent 65537.
const TAIL: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

const MODULUS_BYTES: usize = 384;

fn dressed(number: &[u8]) -> Vec<u8> {
    let mut modulus = vec![0x01; MODULUS_BYTES];
    modulus[0] = 0xc0;
    modulus[1] = u8::try_from(number.len()).unwrap();
    modulus[2..2 + number.len()].copy_from_slice(number);
    [&HEAD[..], &modulus, &TAIL].concat()
}

fn bare(spki: &[u8]) -> Vec<u8> {
    let modulus = &spki[HEAD.len()..HEAD.len() + MODULUS_BYTES];
    modulus[2..2 + usize::from(modulus[1])].to_vec()
}

/// A job as the token in memory knows it.
pub fn job(job: TokenJob) -> TokenJob {
    match job {
        TokenJob::Rewrap(mut of) => {
            of.transport_spki = bare(&of.transport_spki);
            TokenJob::Rewrap(of)
        }
        other => other,
    }
}

/// Its answer as an agent believes it.
pub fn outcome(outcome: TokenOutcome) -> TokenOutcome {
    match outcome {
        TokenOutcome::Done(TokenAnswer::Prepared(mut of)) => {
            of.transport_spki = dressed(&of.transport_spki);
            TokenOutcome::Done(TokenAnswer::Prepared(of))
        }
        other => other,
    }
}
