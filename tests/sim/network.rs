//! The network: lines that keep the order of frames as TCP does, until a fault says otherwise; partitions one way and both;
//! halves of lines that nobody tells of their end.

use std::collections::VecDeque;

use lockstep::decide::agent::io::StreamId;
use lockstep::model::protocol::{Down, Up};

use crate::dice::Dice;
use crate::plan::Class;
use crate::world::{Event, World};

/// A frame down, or the end of the line.
#[derive(Debug, Clone)]
pub(crate) enum DownFrame {
    Frame(Box<Down>),
    End,
}

/// A frame up with the time it was sent at, or the end of the line.
#[derive(Debug, Clone)]
pub(crate) enum UpFrame {
    Frame { sent_at: u64, up: Box<Up> },
    End,
}

/// One stream between a keeper and an agent.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) c: usize,
    pub(crate) c_boot: u64,
    pub(crate) k: usize,
    pub(crate) k_boot: u64,
    pub(crate) stream: StreamId,
    down: VecDeque<(u64, DownFrame)>,
    up: VecDeque<(u64, UpFrame)>,
    /// Nothing passes any more, and nobody is told.
    pub(crate) dead: bool,
}

/// What passes between the coordinators and one agent.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    down_blocked_until: u64,
    up_blocked_until: u64,
}

#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) dice: Dice,
    ways: Vec<Way>,
    next_line: u64,
    next_stream: u64,
}

impl Net {
    pub(crate) fn new(seed: u64, keystores: usize) -> Self {
        Self {
            dice: Dice::new(seed, "net"),
            ways: vec![Way::default(); keystores],
            next_line: 0,
            next_stream: 0,
        }
    }
}

impl World {
    pub(crate) fn partition(&mut self, k: usize, down: bool, up: bool, for_ms: u64) {
        let until = self.now + for_ms;
        let way = &mut self.net.ways[k];
        if down {
            way.down_blocked_until = way.down_blocked_until.max(until);
        }
        if up {
            way.up_blocked_until = way.up_blocked_until.max(until);
        }
    }

    pub(crate) fn mend_network(&mut self) {
        for way in &mut self.net.ways {
            *way = Way::default();
        }
    }

    pub(crate) fn blocked(&self, k: usize, is_down: bool) -> bool {
        let way = self.net.ways[k];
        let until = if is_down {
            way.down_blocked_until
        } else {
            way.up_blocked_until
        };
        self.now < until
    }

    /// How long something is on its way.
    pub(crate) fn latency(&mut self) -> u64 {
        let usual = self.net.dice.between(1, 12);
        if self.strikes(Class::Delay) {
            usual + self.net.dice.between(50, 4_000)
        } else {
            usual
        }
    }

    /// A new line to an agent that runs.
    pub(crate) fn open_line(&mut self, c: usize, k: usize) -> u64 {
        self.net.next_line += 1;
        self.net.next_stream += 1;
        let line = self.net.next_line;
        let stream = StreamId(self.net.next_stream);
        let (c_boot, k_boot) = (self.coordinators[c].boot, self.agents[k].boot);
        self.lines.insert(
            line,
            Line {
                c,
                c_boot,
                k,
                k_boot,
                stream,
                down: VecDeque::new(),
                up: VecDeque::new(),
                dead: false,
            },
        );
        if let Some(run) = &mut self.agents[k].run {
            run.streams.insert(stream, line);
        }
        line
    }

    pub(crate) fn send_down(&mut self, line: u64, frame: DownFrame) {
        let is_plain =
            matches!(&frame, DownFrame::Frame(down) if !matches!(**down, Down::Open { .. }));
        if is_plain && self.strikes(Class::Drop) {
            return self.note("a frame down is lost");
        }
        if is_plain && self.strikes(Class::Duplicate) {
            let after = self.latency() + self.net.dice.between(1, 9_000);
            self.after(
                after,
                Event::StrayDown {
                    line,
                    frame: frame.clone(),
                },
            );
        }
        if is_plain && self.strikes(Class::Reorder) {
            let after = self.latency() + self.net.dice.between(1, 3_000);
            return self.after(after, Event::StrayDown { line, frame });
        }
        let at = self.now + self.latency();
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let at = open.down.back().map_or(at, |(last, _)| at.max(*last));
        open.down.push_back((at, frame));
        let wait = at - self.now;
        self.after(wait, Event::DownDue { line });
    }

    pub(crate) fn send_up(&mut self, line: u64, frame: UpFrame) {
        // The coordinator ends a session in which a frame comes twice: often enough, not always. None overtakes another: a gap
        // would not be noticed, and the line has none.
        let is_plain = matches!(&frame, UpFrame::Frame { .. }) && self.net.dice.chance(300);
        if is_plain && self.strikes(Class::Duplicate) {
            let after = self.latency() + self.net.dice.between(1, 9_000);
            self.after(
                after,
                Event::StrayUp {
                    line,
                    frame: frame.clone(),
                },
            );
        }
        let at = self.now + self.latency();
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let at = open.up.back().map_or(at, |(last, _)| at.max(*last));
        open.up.push_back((at, frame));
        let wait = at - self.now;
        self.after(wait, Event::UpDue { line });
    }

    pub(crate) fn down_due(&mut self, line: u64) {
        let now = self.now;
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let due = open.down.front().is_some_and(|(at, _)| *at <= now);
        if !due || open.dead {
            return;
        }
        let k = open.k;
        if self.blocked(k, true) {
            return self.after(500, Event::DownDue { line });
        }
        let frame = self
            .lines
            .get_mut(&line)
            .and_then(|open| open.down.pop_front());
        if let Some((_, frame)) = frame {
            self.arrives_down(line, frame);
            self.after(0, Event::DownDue { line });
        }
    }

    pub(crate) fn up_due(&mut self, line: u64) {
        let now = self.now;
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        let due = open.up.front().is_some_and(|(at, _)| *at <= now);
        if !due || open.dead {
            return;
        }
        let k = open.k;
        if self.blocked(k, false) {
            return self.after(500, Event::UpDue { line });
        }
        let frame = self
            .lines
            .get_mut(&line)
            .and_then(|open| open.up.pop_front());
        if let Some((_, frame)) = frame {
            self.arrives_up(line, frame);
            self.after(0, Event::UpDue { line });
        }
    }

    /// The line ends for the agent: at once, in the order of the frames, or never.
    pub(crate) fn end_at_agent(&mut self, line: u64, is_told: bool) {
        if is_told {
            self.send_down(line, DownFrame::End);
        }
    }

    /// The line breaks in the middle: what was on it is lost.
    pub(crate) fn break_line(&mut self, line: u64, agent_hears: bool, coordinator_hears: bool) {
        let Some(open) = self.lines.get_mut(&line) else {
            return;
        };
        open.down.clear();
        open.up.clear();
        open.dead = true;
        if agent_hears {
            let after = self.latency();
            self.after(
                after,
                Event::StrayDown {
                    line,
                    frame: DownFrame::End,
                },
            );
        }
        if coordinator_hears {
            let after = self.latency();
            self.after(
                after,
                Event::StrayUp {
                    line,
                    frame: UpFrame::End,
                },
            );
        }
    }
}
