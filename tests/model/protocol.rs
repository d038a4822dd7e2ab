//! The moves of the model: what people, coordinators, agents, networks and faults may do next. What they decide, `real` says.

use lockstep::model::desired::Want;
use lockstep::model::lifecycle::{Action, ManagedState};

use crate::mutants::Mutant;
use crate::real::{self, Gate, Said};
use crate::state::{Call, Order, Phase, Report, Spent, Store, Target, World};

/// How far the model goes, and without which mechanism.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) targets: usize,
    /// One, or two of which each may have read the store at another time.
    pub(crate) coordinators: usize,
    /// Most of each.
    pub(crate) most: Spent,
    pub(crate) without: Option<Mutant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Move {
    Person(Action),
    /// Somebody pushes again what is wanted.
    Sync(usize),
    Read(usize, usize),
    Send(usize, usize),
    Open(usize),
    Deliver(usize, u8, Order),
    Work(usize),
    Report(usize),
    Hear(usize, Report),
    AgentCrash(usize),
    JournalLoss(usize),
    CoordinatorRestart,
    Backup,
    Restore,
    Edit(usize),
}

impl Scope {
    pub(crate) fn lacks(&self, mutant: Mutant) -> bool {
        self.without == Some(mutant)
    }

    pub(crate) fn start(&self) -> World {
        World {
            store: Store {
                state: ManagedState::PreActivation,
                desired: vec![None; self.targets],
                remembered: Vec::new(),
            },
            backup: None,
            targets: vec![Target::default(); self.targets],
            spent: Spent::default(),
        }
    }

    pub(crate) fn moves(&self, world: &World, moves: &mut Vec<Move>) {
        let (most, spent) = (&self.most, &world.spent);
        if spent.orders < most.orders {
            let allowed = world.store.state.allowed().into_iter();
            let orders = [Action::Activate, Action::Deactivate, Action::Destroy];
            let orders = allowed.filter(|action| orders.contains(action));
            // A key that was never anywhere has nothing to destroy.
            let is_new = world.store.state == ManagedState::PreActivation;
            let orders = orders.filter(|action| !is_new || *action == Action::Activate);
            moves.extend(orders.map(Move::Person));
        }
        for (at, target) in world.targets.iter().enumerate() {
            self.moves_of(world, at, target, moves);
        }
        let is_begun = world.store.state != ManagedState::PreActivation;
        if spent.crashes < most.crashes && is_begun {
            moves.push(Move::CoordinatorRestart);
        }
        if spent.restores < most.restores {
            if world.backup.is_some() {
                moves.push(Move::Restore);
            } else if is_begun {
                moves.push(Move::Backup);
            }
        }
    }

    fn moves_of(&self, world: &World, at: usize, target: &Target, moves: &mut Vec<Move>) {
        let (most, spent) = (&self.most, &world.spent);
        let agent = &target.agent;
        let is_in_step = |(_, said)| matches!(said, Said::InSync(_));
        let may_sync = self.said(world, at).is_some_and(|said| !is_in_step(said));
        if may_sync && spent.syncs < most.syncs {
            moves.push(Move::Sync(at));
        }
        let caches = target.caches.iter().take(self.coordinators);
        for (coordinator, cache) in caches.enumerate() {
            if *cache != world.store.desired[at] {
                moves.push(Move::Read(at, coordinator));
            }
            if let Some(order) = cache
                && target.joined != 0
                && !target.downs.contains(&(target.joined, *order))
            {
                moves.push(Move::Send(at, coordinator));
            }
        }
        let is_received = matches!(agent.work, Some((_, Phase::Received)));
        // The session's own record comes after the intent's in the journal.
        let may_open = !is_received || self.lacks(Mutant::ReportsWhileBusy);
        let is_cut = target.joined == 0 || !agent.is_live;
        if may_open && (is_cut || spent.takeovers < most.takeovers) {
            moves.push(Move::Open(at));
        }
        let downs = target.downs.iter();
        moves.extend(downs.map(|&(session, order)| Move::Deliver(at, session, order)));
        let is_open = agent.journal.is_some() && !agent.is_done && !agent.is_halted;
        if agent.work.is_some() || is_open {
            moves.push(Move::Work(at));
        }
        let may_report = !is_received || self.lacks(Mutant::ReportsWhileBusy);
        if spent.reports < most.reports && agent.is_live && may_report {
            moves.push(Move::Report(at));
        }
        moves.extend(target.ups.iter().map(|&report| Move::Hear(at, report)));
        if spent.crashes < most.crashes && (agent.work.is_some() || agent.journal.is_some()) {
            moves.push(Move::AgentCrash(at));
        }
        if spent.losses < most.losses && agent.journal.is_some() {
            moves.push(Move::JournalLoss(at));
        }
        if spent.edits < most.edits && target.token.private != [0, 0] {
            moves.push(Move::Edit(at));
        }
    }

    pub(crate) fn play(&self, before: &World, next: &Move) -> Option<World> {
        let mut world = before.clone();
        match *next {
            Move::Person(action) => order(&mut world, action)?,
            Move::Sync(at) => {
                world.spent.syncs += 1;
                let want = world.store.desired[at]?.want;
                renew(&mut world, at, want);
            }
            Move::CoordinatorRestart => {
                world.spent.crashes += 1;
                self.coordinators_start(&mut world);
            }
            Move::Backup => self.back_up(&mut world),
            Move::Restore => {
                world.spent.restores += 1;
                self.coordinators_start(&mut world);
                world.store = world.backup.clone()?;
                for (target, last) in world.targets.iter_mut().zip(&world.store.remembered) {
                    target.last = *last;
                }
            }
            Move::Report(at) => {
                world.spent.reports += 1;
                report(world.targets.get_mut(at)?);
            }
            Move::AgentCrash(at) => {
                world.spent.crashes += 1;
                agent_starts(world.targets.get_mut(at)?);
            }
            Move::JournalLoss(at) => {
                world.spent.losses += 1;
                self.lose_journal(world.targets.get_mut(at)?);
            }
            Move::Open(at) => {
                let target = world.targets.get_mut(at)?;
                if target.joined != 0 && target.agent.is_live {
                    world.spent.takeovers += 1;
                }
                self.open(target);
            }
            Move::Edit(at) => {
                world.spent.edits += 1;
                let target = world.targets.get_mut(at)?;
                target.edits += 1;
                target.token.private.reverse();
            }
            Move::Read(at, coordinator) => {
                world.targets.get_mut(at)?.caches[coordinator] = world.store.desired[at];
            }
            Move::Send(at, coordinator) => {
                let target = world.targets.get_mut(at)?;
                let order = target.caches[coordinator]?;
                target.downs.insert((target.joined, order));
            }
            Move::Deliver(at, session, order) => {
                self.deliver(world.targets.get_mut(at)?, session, order);
            }
            Move::Work(at) => self.work(world.targets.get_mut(at)?),
            Move::Hear(at, report) => {
                let World { store, targets, .. } = &mut world;
                self.hear(&mut store.desired[at], targets.get_mut(at)?, report);
            }
        }
        (world != *before).then_some(world)
    }

    fn coordinators_start(&self, world: &mut World) {
        for target in &mut world.targets {
            target.caches = [None, None];
            target.joined = 0;
            if !self.lacks(Mutant::TrustedAfterRestart) {
                target.last = None;
                target.known_edits = 0;
            }
            self.cut(target);
        }
    }

    fn back_up(&self, world: &mut World) {
        let mut store = world.store.clone();
        if self.lacks(Mutant::TrustedAfterRestart) {
            store.remembered = world.targets.iter().map(|target| target.last).collect();
        }
        world.backup = Some(store);
    }

    /// What a session carried dies with it.
    fn cut(&self, target: &mut Target) {
        if !self.lacks(Mutant::NoSessionFence) {
            target.downs.clear();
            target.ups.clear();
        }
    }

    fn lose_journal(&self, target: &mut Target) {
        agent_starts(target);
        target.agent.journal = None;
        target.agent.is_done = false;
        target.agent.is_lost = !self.lacks(Mutant::NoQuarantine);
        // What is left of the old run's numbers is the coordinator's to tell; the agent starts anew.
        target.seen.newest = 0;
    }

    fn open(&self, target: &mut Target) {
        target.agent.session += 1;
        target.agent.is_live = true;
        self.cut(target);
        target.joined = target.agent.session;
        if !self.lacks(Mutant::TrustedAfterRestart) {
            target.last = None;
        }
        report(target);
    }

    fn deliver(&self, target: &mut Target, session: u8, order: Order) {
        let agent = &mut target.agent;
        let is_current = agent.is_live && session == agent.session;
        // One at a time: what is not taken now may be delivered later.
        if agent.work.is_some() || !(is_current || self.lacks(Mutant::NoSessionFence)) {
            return;
        }
        let newest = agent.journal.map(|held| self.as_told(held, order));
        let newest = newest.filter(|_| !self.lacks(Mutant::NoFence));
        match real::gate(newest, order, agent.is_lost) {
            Gate::Refuse => {}
            Gate::Again if agent.is_done || agent.is_halted => {}
            Gate::Again => {
                agent.work = agent.journal.map(|held| (held, Phase::Journaled));
            }
            Gate::Take => agent.work = Some((order, Phase::Received)),
        }
    }

    /// What the fence is told that the journal holds.
    fn as_told(&self, held: Order, order: Order) -> Order {
        if self.lacks(Mutant::NoTombstone) && held.want == Want::Destroyed {
            let want = Want::Deactivated;
            return Order { want, ..held };
        }
        if self.lacks(Mutant::NoDigest) && held.generation == order.generation {
            return order;
        }
        held
    }

    /// The next thing that the agent does by itself.
    fn work(&self, target: &mut Target) {
        let Some((order, phase)) = target.agent.work.take() else {
            // After a start, what the journal holds undone goes on.
            let held = target.agent.journal;
            target.agent.work = held.map(|order| (order, Phase::Journaled));
            return;
        };
        let is_late = self.lacks(Mutant::JournalAfter);
        match phase {
            Phase::Received if is_late => target.agent.work = Some((order, Phase::Journaled)),
            Phase::Received => {
                let held = target.agent.journal.map(|held| held.want);
                let is_tombstone = held == Some(Want::Destroyed);
                target.agent.journal = Some(order);
                if self.lacks(Mutant::TombstoneIsDone) && is_tombstone {
                    target.agent.is_done = true;
                    return report(target);
                }
                target.agent.is_done = false;
                target.agent.is_halted = false;
                target.agent.work = Some((order, Phase::Journaled));
            }
            Phase::Journaled => self.look(target, order),
            Phase::Running(calls) => {
                let mut left = calls.into_iter();
                if let Some(call) = left.next() {
                    effect(target, order, call);
                }
                let left: Vec<Call> = left.collect();
                target.agent.work = Some((order, Phase::Running(left.clone())));
                if left.is_empty() {
                    self.ran(target, order);
                }
            }
        }
    }

    /// The calls are done: where it is not as wanted, and there is something to do about it, look again.
    fn ran(&self, target: &mut Target, order: Order) {
        if self.lacks(Mutant::NoLook) || real::is_met(order, target.token) {
            self.read_back(target, order);
        } else {
            self.look(target, order);
        }
    }

    fn look(&self, target: &mut Target, order: Order) {
        target.seen.destroyed |= order.want == Want::Destroyed;
        let seen = if self.lacks(Mutant::NoLook) && !real::is_met(order, target.token) {
            crate::state::Token::default()
        } else {
            target.token
        };
        let is_quarantined = target.agent.is_lost && !self.lacks(Mutant::QuarantineInstalls);
        match real::calls(order, seen, is_quarantined) {
            Some(calls) if !calls.is_empty() => {
                target.agent.work = Some((order, Phase::Running(calls)));
            }
            Some(_) | None => self.read_back(target, order),
        }
    }

    /// The steps are done, or there is an obstacle: what is there decides.
    fn read_back(&self, target: &mut Target, order: Order) {
        target.agent.work = None;
        if self.lacks(Mutant::JournalAfter) {
            target.agent.journal = Some(order);
        }
        target.agent.is_done = real::is_met(order, target.token);
        // What stands in the way is for a person, or for the next start.
        target.agent.is_halted = !target.agent.is_done;
        report(target);
    }

    /// A report reaches the coordinators.
    fn hear(&self, desired: &mut Option<Order>, target: &mut Target, report: Report) {
        let is_current = report.session == target.joined;
        let is_next = target.last.is_none_or(|last| report.seq > last.seq);
        if !(is_current || self.lacks(Mutant::NoSessionFence)) || target.joined == 0 {
            return;
        }
        if !(is_next || self.lacks(Mutant::NoSequence)) {
            return;
        }
        // What came before it, and itself, never counts again.
        if !self.lacks(Mutant::NoSequence) {
            target.ups.retain(|other| other.seq > report.seq);
        }
        *desired = self.merge(*desired, report.applied);
        target.last = Some(report);
        target.known_edits = target.known_edits.max(report.edits);
    }

    /// R11: what is wanted after a report that is ahead of the store, or differs. Restrictive wins, a tombstone always.
    fn merge(&self, desired: Option<Order>, applied: Option<Order>) -> Option<Order> {
        let (Some(wanted), Some(applied)) = (desired, applied) else {
            return desired.or(applied);
        };
        let is_tombstone = applied.want == Want::Destroyed && wanted.want != Want::Destroyed;
        if is_tombstone && wanted.generation > applied.generation {
            let generation = wanted.generation + 1;
            return Some(if self.lacks(Mutant::TombstoneLoses) {
                wanted
            } else {
                Order {
                    generation,
                    ..applied
                }
            });
        }
        let is_ahead = applied.generation > wanted.generation
            || (applied.generation == wanted.generation && applied.want != wanted.want);
        if !is_ahead {
            return desired;
        }
        Some(
            if applied.want >= wanted.want && !self.lacks(Mutant::StoreWins) {
                applied
            } else {
                Order {
                    generation: applied.generation + 1,
                    ..wanted
                }
            },
        )
    }

    /// What is said of a target.
    pub(crate) fn said(&self, world: &World, at: usize) -> Option<(Order, Said)> {
        let order = world.store.desired[at]?;
        let target = &world.targets[at];
        let mut report = target.last;
        if self.lacks(Mutant::NoGeneration)
            && let Some(report) = &mut report
            && report.applied.is_some_and(|it| it.want == order.want)
        {
            report.applied = Some(order);
        }
        Some((order, real::said(order, report.as_ref())))
    }

    /// Faults stop: in a fair run all targets come to be in sync, and truly so, or wait for a person by name.
    pub(crate) fn converges(&self, world: &World) -> bool {
        (0..self.targets).all(|at| self.target_converges(world, at))
    }

    fn target_converges(&self, world: &World, at: usize) -> bool {
        let Some(desired) = world.store.desired[at] else {
            return true;
        };
        let mut desired = Some(desired);
        let mut target = world.targets[at].clone();
        for _ in 0..16 {
            while target.agent.work.is_some() {
                self.work(&mut target);
            }
            self.open(&mut target);
            let Some(report) = target.ups.last().copied() else {
                return false;
            };
            self.hear(&mut desired, &mut target, report);
            let Some(order) = desired else {
                return false;
            };
            match real::said(order, target.last.as_ref()) {
                said @ Said::InSync(_) => return real::is_true(order, said, target.token),
                // The journal is lost: a person has to look.
                Said::Unavailable => return true,
                // Somebody syncs.
                Said::Drift => {
                    desired = Some(Order {
                        generation: order.generation + 1,
                        ..order
                    });
                }
                Said::Unknown | Said::Pending | Said::Diverged | Said::Failed => {}
            }
            if let Some(order) = desired {
                let session = target.agent.session;
                self.deliver(&mut target, session, order);
            }
            // What was taken before and is not done goes on by itself.
            if target.agent.work.is_none() && !target.agent.is_done {
                self.work(&mut target);
            }
        }
        false
    }
}

/// A person's order: a new generation on every target, above the store's and above what was reported.
fn order(world: &mut World, action: Action) -> Option<()> {
    world.spent.orders += 1;
    world.store.state = world.store.state.after(action).ok()?;
    let want = world.store.state.want(true)?;
    for at in 0..world.targets.len() {
        renew(world, at, want);
    }
    Some(())
}

fn renew(world: &mut World, at: usize, want: Want) {
    let stored = world.store.desired[at].map_or(0, |order| order.generation);
    let applied = world.targets[at].last.and_then(|report| report.applied);
    let applied = applied.map_or(0, |order| order.generation);
    world.store.desired[at] = Some(Order {
        generation: stored.max(applied) + 1,
        want,
        number: world.spent.orders + world.spent.syncs,
    });
}

fn agent_starts(target: &mut Target) {
    target.agent.is_halted = false;
    target.agent.is_live = false;
    target.agent.work = None;
}

fn report(target: &mut Target) {
    let agent = &mut target.agent;
    if !agent.is_live {
        return;
    }
    agent.seq += 1;
    target.ups.insert(Report {
        session: agent.session,
        seq: agent.seq,
        applied: agent.journal,
        is_done: agent.is_done,
        is_lost: agent.is_lost,
        token: target.token,
        edits: target.edits,
    });
}

/// One call to the token, and what the checks make of it.
fn effect(target: &mut Target, order: Order, call: Call) {
    let seen = &mut target.seen;
    seen.went_back |= order.generation < seen.newest;
    seen.newest = seen.newest.max(order.generation);
    if order.want != Want::Active {
        seen.restricted_by = seen.restricted_by.max(order.number);
    }
    match call {
        Call::Add(class) => {
            seen.came_back |= seen.destroyed;
            // Three of a half tell no more than two.
            let half = target.token.half(class);
            half[0] = (half[0] + 1).min(2);
        }
        Call::Set(class, on) => {
            let half = target.token.half(class);
            let [off, enabled] = *half;
            let all = (off + enabled).min(2);
            seen.reactivated |= on && off > 0 && order.number < seen.restricted_by;
            *half = if on { [0, all] } else { [all, 0] };
        }
        Call::Remove(class) => *target.token.half(class) = [0, 0],
    }
}
