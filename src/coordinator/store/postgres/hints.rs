//! Hints by NOTIFY: given by any line, heard on one of their own. Lost while that line is down, which costs time alone.

use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::broadcast;
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, Config};
use uuid::Uuid;

use crate::coordinator::store::postgres::connect;
use crate::coordinator::store::sharing::Hint;
use crate::model::ids::KeystoreId;

/// Hints that may wait for a slow reader; older ones are lost.
const HINTS_MAX: usize = 1024;

/// Pause before the line is made anew, and between looks at whether it still is.
const PAUSE: Duration = Duration::from_secs(1);

/// A hint as NOTIFY carries it.
pub(crate) fn text(hint: &Hint) -> String {
    match hint {
        Hint::Wake(keystore) => keystore.uuid().to_string(),
        Hint::Live => "live".to_owned(),
        Hint::Errand => "errand".to_owned(),
    }
}

fn read(text: &str) -> Option<Hint> {
    match text {
        "live" => Some(Hint::Live),
        "errand" => Some(Hint::Errand),
        id => Uuid::parse_str(id)
            .ok()
            .map(|id| Hint::Wake(KeystoreId::from_uuid(id))),
    }
}

/// Listens until nobody has the other end: the store, which keeps it.
pub(crate) fn listen(config: Config, tls: Option<ClientConfig>) -> broadcast::Sender<Hint> {
    let (hints, _none_yet) = broadcast::channel(HINTS_MAX);
    let heard = hints.downgrade();
    tokio::spawn(async move {
        while heard.strong_count() > 0 {
            let heard_now = heard.clone();
            let line = connect::alone(&config, tls.as_ref(), move |message| {
                if let AsyncMessage::Notification(told) = message
                    && let (Some(hint), Some(heard)) = (read(told.payload()), heard_now.upgrade())
                {
                    let _nobody_listens = heard.send(hint);
                }
            });
            if let Ok(line) = line.await
                && line.batch_execute("LISTEN lockstep").await.is_ok()
            {
                while heard.strong_count() > 0 && !line.is_closed() {
                    sleep(PAUSE).await;
                }
            }
            sleep(PAUSE).await;
        }
    });
    hints
}
