//! What the handle asks of the task.

use super::{Core, Request};
use crate::{
    driver::{clock, door::Turned, post, push},
    error::{Error, ImportError},
    event::{ParticipantSnapshot, Presence},
    id::{CallId, PublicKey},
    ports::media::{MediaCommand, MediaError},
    proto::{Command, Input, signal::AppData},
};

impl Core {
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Command(command, reply) => {
                let contacts =
                    matches!(command, Command::AddContact(_) | Command::RemoveContact(_) | Command::Block(_));
                let result = self.step(Input::Command(command));
                if contacts && self.keeps_contacts {
                    let contacts: Vec<PublicKey> = self.machine.contacts().collect();
                    self.reaches.keep(clock::now(), &contacts);
                }
                // The app may have dropped the future; the command holds all the same.
                let _ = reply.send(result);
            }
            Request::Offer { to, app_data, reply } => {
                let result = self.offer(to, app_data);
                let _ = reply.send(result);
            }
            Request::Export { call, peer, reply } => {
                let _ = reply.send(self.export(call, peer));
            }
            Request::Import { bytes, reply } => {
                let _ = reply.send(self.import(bytes));
            }
            Request::Media(MediaCommand::Sound(command), reply) => {
                self.sounds.ask(command, reply);
            }
            Request::Media(MediaCommand::SetIceServers(servers), reply) => {
                let all = self.friends.set_servers(servers);
                self.use_servers(all, Some(reply));
            }
            Request::Media(command, reply) => {
                if let Err(full) = self.media_jobs.try_send((None, command, Some(reply)))
                    && let (_, _, Some(reply)) = full.into_inner()
                {
                    let _ = reply.send(Err(MediaError::Busy));
                }
            }
            Request::Learn { node, address } => {
                self.reaches.learn(node, &address);
                let ended = self.reaches.want(clock::now(), node);
                self.finish(ended);
            }
            Request::ChannelTo(call, peer, reply) => {
                let _ = reply.send(self.machine.channel_to(call, &peer));
            }
            Request::Channel(channel, reply) => {
                let _ = reply.send(self.media.take_channel(channel));
            }
            Request::Shutdown(_) => {}
            #[cfg(test)]
            Request::Shares(call, with, reply) => {
                let _ = reply.send(self.vault.shares(call, &with));
            }
            #[cfg(test)]
            Request::Open(frames, reply) => {
                let opened = frames.iter().filter(|frame| self.vault.openers(frame) > 0).count();
                let _ = reply.send(opened);
            }
        }
    }

    /// A new call of ours: how it comes to be is signed first, since its id is the hash of that.
    fn offer(&mut self, to: Vec<PublicKey>, app_data: AppData) -> Result<CallId, Error> {
        let (may_invite, most) = self.own_calls;
        let (call, create) = self.vault.create(may_invite, most).map_err(|e| Error::Node(e.to_string()))?;
        let command = Command::Offer { call, create, to, app_data, sent_at: clock::unix() };
        let offered = self.step(Input::Command(command));
        // Refused, or another call has taken its place at once: nothing will forget it.
        if self.snapshot.borrow().call(call).is_none() {
            self.vault.forget(call);
        }
        offered.map(|()| call).map_err(Error::from)
    }

    fn export(&mut self, call: CallId, peer: PublicKey) -> Result<Vec<u8>, Error> {
        let calls = |p: &ParticipantSnapshot| p.peer == peer && p.state.presence == Presence::Calling;
        let called = self.snapshot.borrow().call(call).is_some_and(|c| c.participants.iter().any(calls));
        let nothing = || Error::NothingToExport { call, peer };
        let offer = self.vault.unanswered_offer(call, &peer).ok().filter(|_| called);
        let (lane, frame) = offer.ok_or_else(nothing)?;
        let bytes = push::encode(lane, &frame);
        self.step(Input::Command(Command::Export { call, peer })).map_err(|_| nothing())?;
        Ok(bytes)
    }

    /// What the app brings goes the way of what arrives over gossip, from the first check on.
    fn import(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let (lane, frame) = push::decode(bytes.into())?;
        if !self.vault.hears(lane) {
            return Err(ImportError::Closed.into());
        }
        match self.gate.arrived(&self.vault, lane, frame, true) {
            Ok(again) => {
                again.into_iter().for_each(|input| self.feed(input));
                self.open_next();
                Ok(())
            }
            // It came this way, or over gossip, a moment ago.
            Err(Turned::Waits) => Ok(()),
            Err(turned) => {
                post::Dropped::from(turned).count(&mut self.dropped);
                Err(push::refusal(turned).into())
            }
        }
    }
}
