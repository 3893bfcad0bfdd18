//! What friends gave of their TURN servers, and the servers that links use: the app's and these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use simple_webrtc::{IceServer, MAX_ICE_SERVERS};

use crate::{
    id::PublicKey,
    proto::{
        EffectId, LinkCommand, LinkId,
        turn::{Asker, Wishes},
    },
    time::Instant,
    wire::TurnPass,
};

/// What links may wait with. A link says about thirty things while it is set up.
const MAX_HELD: usize = 256;

/// Something to be done with a link.
type Doing = (EffectId, LinkId, LinkCommand);

/// What comes of a friend's answer: all servers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Others than before, for all links.
    Others(Vec<IceServer>),
    /// For links that begin or restart from now on: the same with new credentials, or more. Those that run go on as they are, under the old
    /// credentials as long as their user has any that hold.
    Renewed(Vec<IceServer>),
}

/// The friends who may relay for us, and what they gave.
pub(crate) struct Friends {
    asker: Asker,
    /// What the app named.
    servers: Vec<IceServer>,
    passes: BTreeMap<PublicKey, TurnPass>,
    /// Only relayed addresses are shown, so nobody is asked for others.
    only_relayed: bool,
    /// Whose servers are in use, in order. As long as there is a call none comes or goes: for another list of servers the engine gives up
    /// every relayed path that it has, and for new credentials too if any server has given it none.
    used: Vec<PublicKey>,
    /// Who has answered since, in order. A link that begins uses theirs too, and one that restarts, which has given up its path already.
    late: Vec<PublicKey>,
    /// What these gave holds no more, and goes with the call.
    over: BTreeSet<PublicKey>,
    wanted: bool,
    /// A link of this call has begun, with what was there by then.
    begun: bool,
    /// Links that wait for the first answer, each with all that is to be done, in order.
    held: VecDeque<Doing>,
}

impl Friends {
    pub(crate) fn new(friends: impl IntoIterator<Item = PublicKey>, servers: Vec<IceServer>) -> Self {
        Self {
            asker: Asker::new(friends),
            servers,
            passes: BTreeMap::new(),
            only_relayed: false,
            used: Vec::new(),
            late: Vec::new(),
            over: BTreeSet::new(),
            wanted: false,
            begun: false,
            held: VecDeque::new(),
        }
    }

    /// Whether only relayed addresses are shown.
    pub(crate) fn only_relayed(mut self, only_relayed: bool) -> Self {
        self.only_relayed = only_relayed;
        self
    }

    /// There is a call, or none any more. The servers to be used from now on, if they are others.
    pub(crate) fn set_wanted(&mut self, now: Instant, wanted: bool) -> Option<Vec<IceServer>> {
        self.asker.set_wanted(now, wanted);
        self.wanted = wanted;
        self.begun &= wanted;
        self.choose(!wanted)
    }

    /// Something is to be done with a link: at once (then it is given back), or when the link's time comes.
    pub(crate) fn link(&mut self, now: Instant, doing: Doing) -> Option<Doing> {
        let begins = matches!(doing.2, LinkCommand::Dial | LinkCommand::Accept(_));
        let waits = self.held.iter().any(|(_, link, _)| *link == doing.1);
        if self.held.len() < MAX_HELD && (waits || (begins && !self.asker.is_settled(now))) {
            self.held.push_back(doing);
            return None;
        }
        self.begun |= begins;
        Some(doing)
    }

    /// What has waited long enough.
    pub(crate) fn released(&mut self, now: Instant) -> VecDeque<Doing> {
        // Without a call there is nobody to wait for, and what is left is to be ended.
        let goes = !self.wanted || self.held.len() >= MAX_HELD || self.asker.is_settled(now);
        let released = if goes { std::mem::take(&mut self.held) } else { VecDeque::new() };
        self.begun |= self.wanted && !released.is_empty();
        released
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.asker.next_timeout()
    }

    /// What is to be done now, and the servers to be used from now on, if they are others.
    pub(crate) fn on_time(&mut self, now: Instant) -> (Wishes, Option<Vec<IceServer>>) {
        let mut wishes = self.asker.on_time(now);
        self.over.extend(std::mem::take(&mut wishes.over));
        let servers = self.choose(!self.wanted);
        (wishes, servers)
    }

    /// Chooses whose servers are used, if they may be others now. All servers, if they are.
    fn choose(&mut self, may_change: bool) -> Option<Vec<IceServer>> {
        let stays =
            |friend: &PublicKey| self.wanted && (self.used.contains(friend) || self.late.contains(friend));
        self.passes.retain(|friend, _| !self.over.contains(friend) || stays(friend));
        let given = self.passes.keys().copied();
        if !may_change || (self.late.is_empty() && given.clone().eq(self.used.iter().copied())) {
            return None;
        }
        self.used = given.collect();
        self.late.clear();
        Some(self.servers())
    }

    /// Asking could not begin.
    pub(crate) fn failed(&mut self, now: Instant, friend: &PublicKey) {
        self.asker.failed(now, friend);
    }

    /// A friend has answered: the servers to be used from now on. Nobody else's answer is taken.
    pub(crate) fn given(&mut self, now: Instant, friend: PublicKey, pass: TurnPass) -> Option<Given> {
        if !self.asker.given(now, &friend, pass.life()) {
            return None;
        }
        self.passes.insert(friend, pass);
        self.over.remove(&friend);
        if self.used.contains(&friend) || self.late.contains(&friend) {
            return Some(Given::Renewed(self.later()));
        }
        // Nothing is lost while no link has begun, or none of them can have a relay.
        let has_relay = !self.used.is_empty() || self.servers.iter().any(IceServer::is_turn);
        if !has_relay || !self.begun {
            return self.choose(true).map(Given::Others);
        }
        self.late.push(friend);
        Some(Given::Renewed(self.later()))
    }

    /// The app uses others: all that are to be used from now on, by links that run as well.
    ///
    /// For another list the engine gives up what it has in any case, so who answered late is in it too. New credentials of the same servers
    /// leave running links as they are; then a link that restarts has nothing of the late ones until one of the friends has answered again, which is
    /// within five minutes.
    pub(crate) fn set_servers(&mut self, servers: Vec<IceServer>) -> Vec<IceServer> {
        fn urls(servers: &[IceServer]) -> impl Iterator<Item = &str> {
            servers.iter().map(IceServer::url)
        }
        if !urls(&servers).eq(urls(&self.servers)) {
            self.used.append(&mut self.late);
        }
        self.servers = servers;
        self.servers()
    }

    /// The app's servers first, and in their places, so that what is known of them stays. Then those of each friend, which all are one
    /// machine at one port: who says under which address we are seen (STUN), and TURN over UDP and over TCP. Which of the two comes
    /// through only trying tells, and a friend serves both.
    ///
    /// Where that is more than a connection takes, who relays comes before who only tells addresses, of whom one is enough, and UDP before TCP.
    fn servers(&self) -> Vec<IceServer> {
        self.with_those_of(&self.used, &[])
    }

    /// The same with those who answered late, behind the others.
    fn later(&self) -> Vec<IceServer> {
        self.with_those_of(&self.used, &self.late)
    }

    fn with_those_of(&self, friends: &[PublicKey], more: &[PublicKey]) -> Vec<IceServer> {
        let passes = || friends.iter().chain(more).filter_map(|friend| self.passes.get(friend));
        let of_friends = || passes().flat_map(|pass| pass.addresses().iter().map(move |at| (at, pass)));
        let count = of_friends().count();
        let mut room = MAX_ICE_SERVERS.saturating_sub(self.servers.len());
        let mut fit = |wanted: usize| {
            let fit = wanted.min(room);
            room -= fit;
            fit
        };
        let stuns = if self.only_relayed { 0 } else { count };
        let (udp, one, tcp) = (fit(count), fit(stuns.min(1)), fit(count));
        let stun = one + fit(stuns - stuns.min(1));
        let mut servers = self.servers.clone();
        for (n, (at, pass)) in of_friends().enumerate() {
            let turn = |url: String| IceServer::turn(url, pass.username(), pass.password());
            servers.extend((n < stun).then(|| IceServer::stun(format!("stun:{at}"))));
            servers.extend((n < udp).then(|| turn(format!("turn:{at}"))));
            servers.extend((n < tcp).then(|| turn(format!("turn:{at}?transport=tcp"))));
        }
        servers
    }
}

impl std::fmt::Debug for Friends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Friends").field("given", &self.passes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::{CallId, Identity};

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn pass(name: &str) -> TurnPass {
        let at = "203.0.114.7:3478".parse().unwrap();
        TurnPass::new([at], name, "password", Duration::from_secs(600)).unwrap()
    }

    fn effect(id: u64) -> EffectId {
        serde_json::from_value(id.into()).unwrap()
    }

    /// Something to be done with the link of a call.
    fn doing(id: u64, n: u8, peer: PublicKey, command: LinkCommand) -> Doing {
        (effect(id), LinkId { call: CallId::from_bytes([n; 16]), peer, generation: 1 }, command)
    }

    /// What comes of a pass.
    fn servers_of(name: &str) -> [IceServer; 3] {
        let turn = |url: &str| IceServer::turn(url, name, "password");
        [
            IceServer::stun("stun:203.0.114.7:3478"),
            turn("turn:203.0.114.7:3478"),
            turn("turn:203.0.114.7:3478?transport=tcp"),
        ]
    }

    fn asked(friends: &mut Friends, second: u64) -> (Vec<PublicKey>, Option<Vec<IceServer>>) {
        let (wishes, servers) = friends.on_time(at(second));
        (wishes.ask, servers)
    }

    #[test]
    fn what_a_friend_gave_is_used_until_it_is_over() {
        let friend = Identity::from_seed([1; 32]).public();
        let own = || vec![IceServer::stun("stun:example.net")];
        let with = |name: &str| {
            let mut servers = own();
            servers.extend(servers_of(name));
            servers
        };
        let mut friends = Friends::new([friend], own());
        assert_eq!(friends.given(at(0), friend, pass("unasked")), None);
        friends.set_wanted(at(0), true);
        assert_eq!(asked(&mut friends, 0), (vec![friend], None));
        let stranger = Identity::from_seed([2; 32]).public();
        assert_eq!(friends.given(at(0), stranger, pass("foreign")), None);
        assert_eq!(friends.given(at(0), friend, pass("one")), Some(Given::Others(with("one"))));
        assert_eq!(asked(&mut friends, 300), (vec![friend], None));
        assert_eq!(friends.given(at(300), friend, pass("two")), Some(Given::Renewed(with("two"))));
        assert_eq!(friends.set_wanted(at(300), false), None);
        assert_eq!(asked(&mut friends, 899), (vec![], None));
        assert_eq!(asked(&mut friends, 900), (vec![], Some(own())));
        assert_eq!(friends.set_servers(Vec::new()), Vec::new());
    }

    /// A link begins, at once.
    fn begins(friends: &mut Friends, second: u64) {
        let peer = Identity::from_seed([7; 32]).public();
        assert!(friends.link(at(second), doing(7, 7, peer, LinkCommand::Dial)).is_some());
    }

    /// While it still rings nothing has begun that could be lost, also when there is nobody left to wait for.
    #[test]
    fn all_who_answer_before_a_link_begins_are_used() {
        let keys = [1, 2, 3].map(|n| Identity::from_seed([n; 32]).public());
        let mut friends = Friends::new(keys, Vec::new());
        friends.set_wanted(at(0), true);
        friends.on_time(at(0));
        for (answers, friend) in keys.into_iter().enumerate() {
            let given = friends.given(at(1), friend, pass("name"));
            assert!(matches!(given, Some(Given::Others(servers)) if servers.len() == 3 * (answers + 1)));
        }
        // In the next call, too.
        begins(&mut friends, 2);
        friends.set_wanted(at(3), false);
        friends.on_time(at(601));
        friends.set_wanted(at(602), true);
        assert_eq!(friends.on_time(at(602)).0.ask.len(), 3);
        for (answers, friend) in keys.into_iter().enumerate() {
            let given = friends.given(at(603), friend, pass("name"));
            assert!(matches!(given, Some(Given::Others(servers)) if servers.len() == 3 * (answers + 1)));
        }
    }

    /// For another list of servers the engine would give up what it has.
    #[test]
    fn during_a_call_no_server_comes_or_goes() {
        let mut keys = [1, 2].map(|n| Identity::from_seed([n; 32]).public());
        keys.sort();
        let [early, late] = keys;
        let mut friends = Friends::new(keys, Vec::new());
        friends.set_wanted(at(0), true);
        assert_eq!(friends.on_time(at(0)).0.ask, [early, late]);
        let given = friends.given(at(0), early, pass("early"));
        assert!(matches!(given, Some(Given::Others(servers)) if servers == servers_of("early")));
        friends.on_time(at(5));
        begins(&mut friends, 5);
        let both = |one: &str, other: &str| [servers_of(one), servers_of(other)].concat();
        let given = friends.given(at(5), late, pass("late"));
        assert_eq!(given, Some(Given::Renewed(both("early", "late"))), "for a restart");
        // New credentials come through all the same, and the old ones stay when they are over.
        assert_eq!(friends.on_time(at(300)).0.ask, [early]);
        let given = friends.given(at(300), early, pass("newer"));
        assert_eq!(given, Some(Given::Renewed(both("newer", "late"))));
        assert_eq!(friends.on_time(at(305)).0.ask, [late]);
        let given = friends.given(at(305), late, pass("later"));
        assert_eq!(given, Some(Given::Renewed(both("newer", "later"))));
        assert_eq!(friends.on_time(at(899)).1, None);
        assert_eq!(friends.on_time(at(904)).1, None, "they are of no use, and the others' paths are");
        // What is over goes, in its place or behind.
        let servers = friends.set_wanted(at(904), false).unwrap();
        assert_eq!(servers, servers_of("later"));
        assert_eq!(friends.on_time(at(905)).1, Some(Vec::new()));
    }

    /// Nothing of whoever answered late is left when the call and what was given are over.
    #[test]
    fn what_came_too_late_goes_with_the_call() {
        let mut keys = [1, 2].map(|n| Identity::from_seed([n; 32]).public());
        keys.sort();
        let [late, early] = keys;
        let both = |one: &str, other: &str| [servers_of(one), servers_of(other)].concat();
        let mut friends = Friends::new(keys, Vec::new());
        friends.set_wanted(at(0), true);
        friends.on_time(at(0));
        friends.given(at(0), early, pass("early"));
        friends.on_time(at(5));
        begins(&mut friends, 5);
        assert!(
            matches!(friends.given(at(5), late, pass("late")), Some(Given::Renewed(s)) if s == both("early", "late"))
        );
        // The next call has both, in order.
        let servers = friends.set_wanted(at(6), false).unwrap();
        assert_eq!(servers, both("late", "early"));
    }

    /// The app's own servers change in mid-call: who answered late is still there for a link that looks for another path.
    #[test]
    fn other_servers_of_the_app_take_nobody_away() {
        let mut keys = [1, 2].map(|n| Identity::from_seed([n; 32]).public());
        keys.sort();
        let [early, late] = keys;
        let own = |url: &str, password: &str| vec![IceServer::turn(url, "app", password)];
        let mut friends = Friends::new(keys, own("turn:one.example", "old"));
        friends.set_wanted(at(0), true);
        friends.on_time(at(0));
        friends.given(at(0), early, pass("early"));
        friends.on_time(at(5));
        begins(&mut friends, 5);
        friends.given(at(5), late, pass("late"));
        // New credentials of the same: links that run go on with what they have.
        let servers = friends.set_servers(own("turn:one.example", "new"));
        assert_eq!(servers[1..], servers_of("early"));
        let servers = friends.set_servers(own("turn:two.example", "new"));
        assert_eq!(servers[1..], [servers_of("early"), servers_of("late")].concat());
    }

    /// Nobody need say under which address it is seen who shows none.
    #[test]
    fn who_shows_relayed_addresses_only_asks_for_no_others() {
        let friend = Identity::from_seed([1; 32]).public();
        let mut friends = Friends::new([friend], Vec::new()).only_relayed(true);
        friends.set_wanted(at(0), true);
        friends.on_time(at(0));
        let servers = servers_of("one")[1..].to_vec();
        assert_eq!(friends.given(at(0), friend, pass("one")), Some(Given::Others(servers)));
    }

    /// Four friends with an address of each family, and some servers of the app: what they have most of gives way.
    #[test]
    fn no_more_servers_are_used_than_a_connection_takes() {
        let keys = [1, 2, 3, 4].map(|n| Identity::from_seed([n; 32]).public());
        let addresses = ["203.0.114.7:3478", "[2a00::7]:3478"].map(|at| at.parse().unwrap());
        for (own, [stun, udp, tcp]) in
            [(0, [1, 8, 7]), (4, [1, 8, 3]), (10, [0, 6, 0]), (16, [0; 3]), (40, [0; 3])]
        {
            let own = vec![IceServer::stun("stun:example.net"); own];
            let mut friends = Friends::new(keys, own.clone());
            friends.set_wanted(at(0), true);
            friends.on_time(at(0));
            // It waits, so that whoever answers is in time.
            assert!(friends.link(at(0), doing(1, 1, keys[0], LinkCommand::Dial)).is_none());
            let mut servers = own.clone();
            for key in keys {
                let pass = TurnPass::new(addresses, "name", "password", Duration::from_secs(600)).unwrap();
                if let Some(Given::Others(others)) = friends.given(at(0), key, pass) {
                    servers = others;
                }
            }
            assert_eq!(servers[..own.len()], own);
            assert!(servers.len() <= MAX_ICE_SERVERS.max(own.len()));
            let shown: Vec<String> =
                servers[own.len()..].iter().map(|server| format!("{server:?}")).collect();
            let count = |what: &str| shown.iter().filter(|server| server.contains(what)).count();
            let found = [count("stun:"), count("turn:") - count("=tcp"), count("=tcp")];
            assert_eq!(found, [stun, udp, tcp], "beside {}", own.len());
        }
    }

    #[test]
    fn a_friend_who_answers_late_takes_no_relay_of_the_app_away() {
        let friend = Identity::from_seed([1; 32]).public();
        for (server, taken) in [
            (IceServer::stun("stun:example.net"), true),
            (IceServer::turn("turn:example.net", "user", "secret"), false),
        ] {
            let mut friends = Friends::new([friend], vec![server]);
            friends.set_wanted(at(0), true);
            friends.on_time(at(0));
            friends.on_time(at(10));
            begins(&mut friends, 10);
            let given = friends.given(at(10), friend, pass("late"));
            assert_eq!(matches!(given, Some(Given::Others(_))), taken);
            assert!(given.is_some(), "a link that restarts takes it in any case");
        }
    }

    #[test]
    fn a_link_that_waits_keeps_its_order_and_others_go_on() {
        let friend = Identity::from_seed([1; 32]).public();
        let doing = |id: u64, n: u8, command| doing(id, n, friend, command);
        let mut none = Friends::new([], Vec::new());
        assert!(none.link(at(0), doing(1, 1, LinkCommand::Dial)).is_some());
        let mut friends = Friends::new([friend], Vec::new());
        assert!(friends.link(at(0), doing(1, 1, LinkCommand::Dial)).is_none());
        assert!(friends.link(at(0), doing(2, 1, LinkCommand::EndOfCandidates)).is_none());
        assert!(friends.link(at(0), doing(3, 2, LinkCommand::Restart)).is_some(), "it has begun before");
        friends.set_wanted(at(0), true);
        friends.on_time(at(0));
        assert!(friends.released(at(1)).is_empty());
        assert!(friends.given(at(1), friend, pass("one")).is_some());
        let ids: Vec<EffectId> = friends.released(at(1)).iter().map(|(id, ..)| *id).collect();
        assert_eq!(ids, [effect(1), effect(2)]);
        assert!(friends.link(at(1), doing(4, 3, LinkCommand::Dial)).is_some());
    }
}
