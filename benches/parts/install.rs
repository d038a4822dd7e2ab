//! Keys installed on a second token: by the agent's layer in this process, through its module host, and by bare loops.
//!
//! All open the same kind of envelope (RSA-OAEP around an AES key, that around the key by RFC 5649) to the same disabled
//! object, each on a token of its own, in turns, a block each. One loop only unwraps. The other makes the calls of a careful
//! program: nothing has the id or the label, unwrap, read, compare by C_DigestKey, the use is refused, the token lists it.

use lockstep::clock::Monotonic;
use lockstep::keystore::Keystore as _;
use lockstep::keystore::host::handle::HostHandle;
use lockstep::keystore::pkcs11::token::Pkcs11Token;
use lockstep::model::job::{Generated, TokenJob, Wrapped};
use tokio::runtime::Runtime;

use crate::parts::calls::Bare;
use crate::parts::material::{self, Maker};
use crate::parts::table::Table;
use crate::parts::tokens;
use crate::support::softhsm::{SoftHsm, Token};

/// First word of the arguments of the process that measures.
pub const INSIDE: &str = "install-inside";

/// Wanted: so many times as long as the careful loop, at most.
const TIMES_MAX: f64 = 1.2;

/// Keys of a block: a token finds in time linear in its objects, so that blocks are compared pair by pair.
const BLOCK: usize = 50;

const LABELS: [&str; 5] = ["maker", "unwrapped", "careful", "here", "there"];

/// Prints the tables for so many keys.
pub fn run(keys: usize) {
    let hsm = SoftHsm::new();
    let made: Vec<Token> = LABELS.map(|label| hsm.token(label)).into();
    let ended = tokens::command(INSIDE, &made)
        .env(tokens::KEYS, keys.to_string())
        .status()
        .unwrap();
    assert!(ended.success());
}

/// The part that loads the module.
pub fn inside(words: &[String]) {
    let (module, mut told) = tokens::told(words);
    let keys = tokens::keys();
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let there = tokens::host(&module, &told[4]);
    let there_spki = material::transport({
        tokens::ask(&runtime, &there, material::marker());
        tokens::ask(&runtime, &there, material::PREPARE)
    });
    // cryptoki insists on being the first to initialise.
    let bare_told: Vec<_> = told.drain(1..3).collect();
    let bare = Bare::open(&module, &bare_told);
    let mut maker = Maker::open(&module, &told[0]);
    let mut here = tokens::here(&module, &told[1]);
    let here_spki = prepared(&mut here);
    let bare_spkis = [0, 1].map(|token| prepared(&mut tokens::here(&module, &bare_told[token])));
    let spkis = [&bare_spkis[0], &bare_spkis[1], &here_spki, &there_spki];
    let mut sides = Sides {
        bare,
        here,
        there,
        runtime: &runtime,
    };
    let mut figures = Figures::new(keys);
    let numbers: Vec<usize> = (0..keys).collect();
    for block in numbers.chunks(BLOCK) {
        let born: Vec<Generated> = block.iter().map(|number| maker.generate(*number)).collect();
        let envelopes = spkis.map(|spki| {
            let envelope = |born| maker.envelope(born, spki);
            born.iter().map(envelope).collect::<Vec<Wrapped>>()
        });
        figures.note(sides.block(block, &born, envelopes));
    }
    figures.print();
    tokens::stop(&runtime, &sides.there);
    drop(entered);
}

fn prepared(token: &mut Pkcs11Token) -> Vec<u8> {
    tokens::done(token.perform(&material::marker()));
    material::transport(tokens::done(token.perform(&material::PREPARE)))
}

struct Sides<'r> {
    bare: Bare,
    here: Pkcs11Token,
    there: HostHandle,
    runtime: &'r Runtime,
}

impl Sides<'_> {
    /// Installs a block on each; gives the milliseconds a key.
    fn block(
        &mut self,
        numbers: &[usize],
        born: &[Generated],
        envelopes: [Vec<Wrapped>; 4],
    ) -> [f64; 4] {
        let [unwrapped, careful, here, there] = envelopes;
        let jobs = |envelopes: Vec<Wrapped>| -> Vec<TokenJob> {
            let each = numbers.iter().zip(born).zip(envelopes);
            each.map(|((number, born), envelope)| material::install(*number, born, envelope))
                .collect()
        };
        let (here, there) = (jobs(here), jobs(there));
        let bare = |token: usize, is_careful: bool, envelopes: &[Wrapped]| {
            timed(numbers.len(), || {
                for ((number, born), envelope) in numbers.iter().zip(born).zip(envelopes) {
                    if is_careful {
                        self.bare.look(token, *number);
                    }
                    let key = self.bare.unwrap(token, *number, envelope);
                    if is_careful {
                        self.bare.verify(token, *number, key, born);
                    }
                }
            })
        };
        let unwrapped = bare(0, false, &unwrapped);
        let careful = bare(1, true, &careful);
        let here = timed(numbers.len(), || {
            for job in &here {
                tokens::ran(tokens::done(self.here.perform(job)));
            }
        });
        let there = timed(numbers.len(), || {
            for job in there {
                tokens::ran(tokens::ask(self.runtime, &self.there, job));
            }
        });
        [unwrapped, careful, here, there]
    }
}

/// Milliseconds for each of so many.
fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let start = Monotonic::now();
    work();
    start.elapsed().as_secs_f64() * 1000.0 / count as f64
}

struct Figures {
    each: Table,
    rows: [usize; 4],
    pairs: Table,
    /// The host against the careful loop, against the one that only unwraps, and the layer alone.
    compared: [(usize, usize, usize); 3],
}

impl Figures {
    fn new(keys: usize) -> Self {
        let title = format!("(g) install of {keys} keys on a second token, a key");
        let mut each = Table::new(&title, "ms");
        let only = each.row("bare loop: unwrap, nothing looked at", None);
        let careful = each.row("bare loop: look, unwrap, read back, prove", Some(only));
        let here = each.row(
            "agent's layer in this process: Install, prove",
            Some(careful),
        );
        let there = each.row("agent's module host: Install, prove", Some(careful));
        let title = format!("(g) install of {keys} keys, block by block");
        let mut pairs = Table::new(&title, "times as long");
        let most = pairs.row("wanted: at most", None);
        pairs.note(most, TIMES_MAX);
        let compared = [
            (
                pairs.row("module host against the careful loop", Some(most)),
                3,
                1,
            ),
            (
                pairs.row("layer in this process against the careful loop", Some(most)),
                2,
                1,
            ),
            (
                pairs.row("module host against the loop that only unwraps", None),
                3,
                0,
            ),
        ];
        Self {
            each,
            rows: [only, careful, here, there],
            pairs,
            compared,
        }
    }

    fn note(&mut self, ms: [f64; 4]) {
        for (row, value) in self.rows.iter().zip(ms) {
            self.each.note(*row, value);
        }
        for (row, ours, theirs) in self.compared {
            self.pairs.note(row, ms[ours] / ms[theirs]);
        }
    }

    fn print(&self) {
        self.each.print();
        self.pairs.print();
    }
}
