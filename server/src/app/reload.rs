//! A configuration that is taken up while the server runs: by the journal for the engine, then by who pings and who sends.
//!
//! A channel that is new is there before the engine can name it, and one that goes stays until the engine names it no more:
//! a message to a channel that is not there is refused for good. What was given to the journal is taken up, however long its
//! disk takes; nothing else waits for that.

use std::sync::PoisonError;
use std::time::Duration;

use dawnwatch_engine::input::Input;
use tokio::sync::{mpsc, oneshot};

use super::inputs::{notice, submit_soon};
use super::start::load_settings;
use super::{Running, Settings, SharedOutbox, Submit};
use crate::journal::Full;
use crate::notify::Outbox;

/// A configuration waits this long for its place in the journal.
const PLACE_WITHIN: Duration = Duration::from_secs(5);

/// A configuration that the journal has and has not answered for.
#[derive(Debug)]
pub(super) struct Reload {
    settings: Settings,
    durable: oneshot::Receiver<Result<(), Full>>,
}

/// What the journal answers: an error where it has ended.
pub(super) type Told = Result<Result<(), Full>, oneshot::error::RecvError>;

/// Waits for what the journal says of it; for ever where there is none.
pub(super) async fn told(reload: &mut Option<Reload>) -> Told {
    match reload {
        Some(reload) => (&mut reload.durable).await,
        None => std::future::pending().await,
    }
}

impl Running {
    /// Gives a changed configuration to the journal; a broken one leaves the old one in force, and a finding says so.
    pub(super) async fn reload(&self) -> Option<Reload> {
        let given = match load_settings(&self.options) {
            Ok(settings) => give(settings, &self.journal, &self.outbox).await,
            Err(error) => Err(error.to_string()),
        };
        given.map_err(|why| self.not_taken_up(&why)).ok()
    }

    /// The engine has it, or never will.
    pub(super) fn reloaded(&self, reload: Option<Reload>, told: Told) {
        let Some(Reload { settings, .. }) = reload else {
            return;
        };
        match told {
            Ok(Ok(())) => {}
            Ok(Err(full)) => return self.not_taken_up(&full.to_string()),
            Err(_) => return self.not_taken_up("the journal has ended"),
        }
        self.targets
            .configure(&settings.engine.targets, settings.pinger.as_deref());
        with_channels(&self.outbox, |outbox| {
            outbox.replace_channels(&settings.channels)
        });
        submit_soon(&self.journal, notice("config", ""));
        tracing::info!("configuration taken up");
    }

    fn not_taken_up(&self, why: &str) {
        tracing::warn!(
            why,
            "configuration not taken up, the old one stays in force"
        );
        let text = format!("configuration not taken up, the old one stays in force: {why}");
        submit_soon(&self.journal, notice("config", &text));
    }
}

/// Gives settings to the journal, and starts the channels that they add.
async fn give(
    settings: Settings,
    journal: &mpsc::Sender<Submit>,
    outbox: &SharedOutbox,
) -> Result<Reload, String> {
    let Ok(Ok(place)) = tokio::time::timeout(PLACE_WITHIN, journal.reserve()).await else {
        return Err("the journal is behind, try again".to_owned());
    };
    with_channels(outbox, |outbox| outbox.add_channels(&settings.channels));
    let config = Input::Config(Box::new(settings.engine.clone()));
    let (reply, durable) = oneshot::channel();
    place.send(Submit::Input(Box::new(config), Some(reply)));
    Ok(Reload { settings, durable })
}

fn with_channels<E: std::fmt::Display>(
    outbox: &SharedOutbox,
    change: impl FnOnce(&mut Outbox) -> Result<(), E>,
) {
    let mut outbox = outbox.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Err(error)) = outbox.as_mut().map(change) {
        tracing::error!(%error, "channels not taken up");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex, mpsc as std_mpsc};

    use dawnwatch_engine::effect::{Content, Notification, Reason};
    use dawnwatch_engine::input::{Delivered, Outcome};
    use jiff::Timestamp;

    use super::*;
    use crate::clock::Clock;
    use crate::notify::{ChannelKind, ChannelSettings, Now, Secret, WebhookSettings};

    /// A channel to a receiver that takes everything.
    fn channel(name: &str) -> ChannelSettings {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 65_536]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let settings = WebhookSettings {
            url: Secret::new(url),
            secret: None,
            ca_file: None,
        };
        ChannelSettings {
            name: name.to_owned(),
            kind: ChannelKind::Webhook(settings),
        }
    }

    fn settings(channels: &[&ChannelSettings]) -> Settings {
        Settings {
            channels: channels.iter().copied().cloned().collect(),
            ..Settings::defaults("UTC")
        }
    }

    struct House {
        outbox: SharedOutbox,
        told: std_mpsc::Receiver<Delivered>,
    }

    impl House {
        fn new(channels: &[ChannelSettings]) -> House {
            let now = || Now {
                wall: Clock.wall(),
                boot_ms: Clock.boot_ms(),
            };
            let (tell, told) = std_mpsc::channel();
            let tell = Mutex::new(tell);
            let outbox = Outbox::start(channels, Arc::new(now), move |delivered| {
                tell.lock().unwrap().send(delivered).unwrap();
            });
            let outbox = Arc::new(Mutex::new(Some(outbox.unwrap())));
            House { outbox, told }
        }

        /// What comes of a message.
        fn send(&self, key: &str, channel: &str) -> Outcome {
            let notification = Notification {
                key: key.to_owned(),
                channel: channel.to_owned(),
                incident: String::new(),
                reason: Reason::Opened,
                decided: Timestamp::UNIX_EPOCH,
                content: Content::Test,
            };
            let outbox = self.outbox.lock().unwrap();
            outbox.as_ref().unwrap().send(notification);
            drop(outbox);
            self.told.recv().unwrap().outcome
        }
    }

    #[tokio::test]
    async fn no_message_meets_a_channel_that_is_not_there() {
        let [old, new] = ["old", "new"].map(channel);
        let house = House::new(std::slice::from_ref(&old));
        assert_eq!(house.send("1", "new"), Outcome::Refused);
        let (journal, mut inbox) = mpsc::channel(1);
        let given = give(settings(&[&new]), &journal, &house.outbox).await;
        let mut reload = Some(given.unwrap());
        // From here on the engine may name the one, until it has read this the other: however long the disk takes.
        let Some(Submit::Input(input, Some(reply))) = inbox.recv().await else {
            panic!("no configuration");
        };
        assert!(matches!(*input, Input::Config(_)));
        assert_eq!(house.send("2", "new"), Outcome::Arrived);
        assert_eq!(house.send("3", "old"), Outcome::Arrived);
        reply.send(Ok(())).unwrap();
        assert_eq!(told(&mut reload).await, Ok(Ok(())));
    }
}
