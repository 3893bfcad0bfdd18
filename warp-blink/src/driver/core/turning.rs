//! Who relays for us, and for whom we do: carries out what the asker, the machine and the office say.

use simple_webrtc::IceServer;

use super::Core;
use crate::{
    driver::{clock, turn::Given, workers::Reply},
    event::Warning,
    id::{CallId, PublicKey},
    ports::media::{MediaCommand, MediaError},
    proto::{Command, EffectId, Input, LinkCommand, LinkId, MediaInput, turn::Wishes},
    wire::TurnPass,
};

impl Core {
    /// Asks those whose turn it is, while there is a call.
    pub(super) fn ask_friends(&mut self) {
        let now = clock::now();
        let others = self.friends.set_wanted(now, self.machine.wants_relay());
        let (Wishes { ask, silent, .. }, servers) = self.friends.on_time(now);
        if let Some(servers) = servers.or(others) {
            self.use_servers(servers, None);
        }
        for friend in ask {
            let asking = clock::random().map(CallId::from_bytes);
            let asked =
                asking.is_ok_and(|call| self.step(Input::Command(Command::AskTurn { call, friend })).is_ok());
            if !asked {
                self.friends.failed(now, &friend);
            }
        }
        for peer in silent {
            self.feed(Input::Media(MediaInput::Warning(Warning::FriendSilent { peer })));
        }
        for (id, link, command) in self.friends.released(now) {
            self.media_job(id, MediaCommand::Link { link, command });
        }
    }

    /// Does something with a link, or lets it wait until it is known who relays.
    pub(super) fn link(&mut self, id: EffectId, link: LinkId, command: LinkCommand) {
        if let Some((id, link, command)) = self.friends.link(clock::now(), (id, link, command)) {
            self.media_job(id, MediaCommand::Link { link, command });
        }
    }

    /// Uses what the packet of this step brought.
    pub(super) fn keep_turn(&mut self, friend: PublicKey) {
        let Some(pass) = self.vault.turn_pass(&friend) else { return };
        match self.friends.given(clock::now(), friend, pass) {
            Some(Given::Others(servers)) => self.use_servers(servers, None),
            Some(Given::Renewed(servers)) => self.media(MediaCommand::RenewIceServers(servers), None),
            None => {}
        }
    }

    /// What somebody who asks is given; the same for each repetition.
    pub(super) fn turn_pass(&self, asking: CallId, to: PublicKey) -> Option<TurnPass> {
        let issued = self.turn.as_ref()?.desk().issue(asking, to);
        issued.inspect_err(|refused| tracing::debug!(%refused, "a friend was not given a place")).ok()
    }

    pub(super) fn gives_turn(&self, asking: CallId, to: PublicKey) -> bool {
        self.turn_pass(asking, to).is_some()
    }

    pub(super) fn forget_turn(&self, asking: &CallId) {
        if let Some(turn) = &self.turn {
            turn.desk().forget(asking);
        }
    }

    pub(super) fn use_servers(&self, servers: Vec<IceServer>, reply: Option<Reply>) {
        self.media(MediaCommand::SetIceServers(servers), reply);
    }

    fn media(&self, command: MediaCommand, reply: Option<Reply>) {
        if let Err(full) = self.media_jobs.try_send((None, command, reply)) {
            tracing::warn!("links take no more work: other servers are used later");
            if let (_, _, Some(reply)) = full.into_inner() {
                // Whoever asked may not wait any more.
                let _ = reply.send(Err(MediaError::Busy));
            }
        }
    }
}
