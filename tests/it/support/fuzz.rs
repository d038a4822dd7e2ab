//! Fuzzing with a committed corpus: every input of `tests/corpus/TARGET` is tried, then changes of them and of the seeds.
//!
//! What makes a check panic is made as small as it can be, kept in the corpus, and so tried first from then on.
//! `LOCKSTEP_FUZZ_CASES` says how many changed inputs each target gets.

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// Changed inputs of a target in an ordinary run.
const CASES: u32 = 400;

/// How much one input may raise the peak of this process's memory, KiB.
const GROWTH_KIB_MAX: u64 = 128 * 1024;

/// Lengths and numbers that others got wrong.
const NUMBERS: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 63,
    u64::MAX,
];

/// One change of an input.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Flip(Index, u32),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    Repeat(Index, usize, usize),
    Number(Index, usize, bool),
    Truncate(Index),
    /// The rest comes from another seed.
    Splice(Index, Index, Index),
    Replace(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        4 => (at(), 0..8_u32).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, new)| Change::Insert(at, new)),
        2 => (at(), 1..17_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        2 => (at(), 1..33_usize, 1..40_usize).prop_map(|(at, l, n)| Change::Repeat(at, l, n)),
        2 => (at(), 0..NUMBERS.len(), any::<bool>()).prop_map(|(at, n, big)| Change::Number(at, n, big)),
        1 => at().prop_map(Change::Truncate),
        2 => (at(), at(), at()).prop_map(|(at, seed, from)| Change::Splice(at, seed, from)),
        1 => vec(any::<u8>(), 0..600).prop_map(Change::Replace),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let place = |bytes: &[u8], at: &Index| at.index(bytes.len() + 1);
    match change {
        Change::Set(..) | Change::Flip(..) if bytes.is_empty() => {}
        Change::Set(at, to) => *at.get_mut(bytes) = *to,
        Change::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
        Change::Insert(at, new) => {
            let at = place(bytes, at);
            bytes.splice(at..at, new.iter().copied());
        }
        Change::Cut(at, length) => {
            let at = place(bytes, at);
            bytes.drain(at..(at + length).min(bytes.len()));
        }
        Change::Repeat(at, length, times) => {
            let at = place(bytes, at);
            let part = bytes[at..(at + length).min(bytes.len())].repeat(*times);
            bytes.splice(at..at, part);
        }
        Change::Number(at, number, big_endian) => {
            let number = NUMBERS[*number];
            let number = if *big_endian {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            };
            let at = place(bytes, at);
            let end = (at + 8).min(bytes.len());
            bytes.splice(at..end, number);
        }
        Change::Truncate(at) => bytes.truncate(place(bytes, at)),
        Change::Splice(at, seed, from) => {
            let other = &seeds[seed.index(seeds.len())];
            bytes.truncate(place(bytes, at));
            bytes.extend_from_slice(&other[place(other, from)..]);
        }
        Change::Replace(new) => bytes.clone_from(new),
    }
}

/// A thing that is read, and how. The check panics on what must not be.
pub struct Target<'c> {
    name: &'c str,
    seeds: Vec<Vec<u8>>,
    cases: u32,
    edit: Edit,
    check: Check<'c>,
}

type Check<'c> = Box<dyn Fn(&[u8]) + 'c>;

/// Makes a change somewhere inside an input, which the number chooses, so that what is around it still fits: lengths,
/// checksums. Otherwise most changes would be noticed at the door.
pub type Edit = fn(&mut Vec<u8>, u64, &mut dyn FnMut(&mut Vec<u8>));

impl<'c> Target<'c> {
    /// With good inputs to begin with, beside those of its corpus.
    pub fn new(name: &'c str, seeds: Vec<Vec<u8>>, check: impl Fn(&[u8]) + 'c) -> Self {
        Self {
            name,
            seeds,
            cases: CASES,
            edit: |bytes, _anywhere, change| change(bytes),
            check: Box::new(check),
        }
    }

    /// For checks that are quicker or slower than most.
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// For inputs with lengths or checksums inside. One change in four is made without regard to them.
    pub fn editing(mut self, edit: Edit) -> Self {
        self.edit = edit;
        self
    }

    /// Tries the corpus and the seeds, then changes of them.
    pub fn run(mut self) {
        for (path, bytes) in corpus(self.name) {
            println!("{}", path.display());
            self.try_one(&bytes);
            self.seeds.push(bytes);
        }
        assert!(
            !self.seeds.is_empty(),
            "{}: nothing to begin with",
            self.name
        );
        self.seeds.iter().for_each(|seed| self.try_one(seed));
        if let Some((why, bytes)) = self.search() {
            let path = directory(self.name).join(format!("found-{:016x}", number_of(&bytes)));
            std::fs::create_dir_all(directory(self.name)).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            panic!(
                "{}: {why}; the input is kept in {}",
                self.name,
                path.display()
            );
        }
    }

    fn try_one(&self, bytes: &[u8]) {
        let before = peak_kib();
        (self.check)(bytes);
        let grown = peak_kib() - before;
        assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
    }

    /// The smallest input that makes the check panic.
    fn search(&self) -> Option<(String, Vec<u8>)> {
        let cases = std::env::var("LOCKSTEP_FUZZ_CASES")
            .map_or(self.cases, |cases| cases.parse().expect("a number"));
        let changes = vec((any::<u64>(), change()), 1..8);
        let changed = (any::<Index>(), changes).prop_map(|(seed, changes)| {
            let mut bytes = self.seeds[seed.index(self.seeds.len())].clone();
            for (place, change) in &changes {
                let mut act = |part: &mut Vec<u8>| apply(part, change, &self.seeds);
                match place % 4 {
                    0 => act(&mut bytes),
                    _ => (self.edit)(&mut bytes, place / 4, &mut act),
                }
            }
            bytes
        });
        let mut runner = TestRunner::new(Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: 2000,
            ..Config::default()
        });
        // Making an input small takes hundreds of panics, of which the last one is told.
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let run = runner.run(&changed, |bytes| {
            self.try_one(&bytes);
            Ok::<(), TestCaseError>(())
        });
        std::panic::set_hook(told);
        match run {
            Ok(()) => None,
            Err(TestError::Fail(why, bytes)) => Some((why.to_string(), bytes)),
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target)
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(directory(target)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// FNV-1a: a name for an input.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Peak memory of this process so far, KiB.
pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let words = line.unwrap().split_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}

#[test]
fn a_panic_that_few_inputs_cause_is_found_and_made_small() {
    let found = Target::new("none", vec![b"a good message".to_vec()], |bytes| {
        assert!(
            !bytes.windows(2).any(|pair| pair == [0xff, 0xff]),
            "planted"
        );
    })
    .cases(2000)
    .search();
    let (why, bytes) = found.expect("the planted panic");
    assert!(why.contains("planted"), "{why}");
    assert!(bytes.len() < 40, "{bytes:?}");
}
