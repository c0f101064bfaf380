//! What the other side of a carrier sends by itself: kept before it is acknowledged, and whoever waits for it woken.
//! And the count of logins that carriers share.

use crate::{Chain, Engine, Shared};
use async_trait::async_trait;
use reveille_carriers::{LOGIN_FAILURES_MAX, LoginEnded, Logins, MayLogIn, Unheard};
use reveille_domain::{Clock, Network, Timestamp};
use reveille_store::{KeptNotice, Lane, LoginEnd, LoginTurn, NoticeKey, Result, Store};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, warn};

/// How far apart the clocks of nodes may be for one to see what another has just heard; by more, it is seen when
/// the carrier is asked.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(3);

/// How many notices are looked at that other nodes have heard; the rest is seen when the carrier is asked.
const NOTICED_MAX: usize = 4_096;

/// How long a login may be under way, which is longer than its call may take, before it counts as one that nobody heard the end of.
const LOGIN_LASTS_MAX: Duration = Duration::from_secs(15);

/// How often, and how long apart, the end of a login is written that could not be.
const WRITTEN_WITHIN: usize = 20;
const WRITTEN_AGAIN_AFTER: Duration = Duration::from_millis(250);

impl Engine {
    /// Takes what was sent to a network's door. Once this ends well it is kept, and will be minded.
    ///
    /// # Errors
    /// Where the store fails: then it is to be sent again.
    pub async fn hear(
        &self,
        network: Network,
        from: IpAddr,
        body: &[u8],
    ) -> Result<std::result::Result<(), Unheard>> {
        let lane = Lane::Network(network);
        let Some(setup) = &self.shared.lane(lane).setup else { return Ok(Err(Unheard::NotExpected)) };
        let notices = match setup.carrier.hear(from, body) {
            Ok(notices) => notices,
            Err(unheard) => return Ok(Err(unheard)),
        };
        let heard_at = self.shared.now();
        let kept = notices.into_iter().map(|notice| KeptNotice {
            key: NoticeKey { name: notice.name, iccid: notice.iccid },
            text: notice.text,
            heard_at,
        });
        let kept: Vec<KeptNotice> = kept.collect();
        if kept.is_empty() {
            return Ok(Ok(()));
        }
        let keys: Vec<NoticeKey> = kept.iter().map(|notice| notice.key.clone()).collect();
        self.shared.store.keep_notices(kept).await?;
        self.shared.unpark(&keys);
        Ok(Ok(()))
    }
}

impl Shared {
    /// Has those minded now of which something was heard.
    pub(crate) fn unpark(&self, heard: &[NoticeKey]) {
        let now = self.now();
        for key in heard {
            if let Some(lane) = self.order().unpark(&key.name, &key.iccid, now) {
                self.lane(lane).wake();
            }
        }
    }

    /// Looks for what other nodes have heard of what waits here.
    pub(crate) async fn notice_notices(&self, since: Timestamp) -> Result<()> {
        if self.order().parks_nothing() {
            return Ok(());
        }
        let heard = self.store.noticed(since.minus(CLOCKS_APART_MAX), NOTICED_MAX).await?;
        self.unpark(&heard);
        Ok(())
    }
}

/// The count of logins, in the store.
pub(crate) struct CountedLogins {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Logins for CountedLogins {
    async fn begin(&self, login: &str, credentials: &str) -> MayLogIn {
        let now = self.clock.now();
        let until = now.plus(LOGIN_LASTS_MAX);
        match self.store.begin_login(login, credentials, LOGIN_FAILURES_MAX, now, until).await {
            Ok(LoginTurn::Now) => MayLogIn::Now,
            Ok(LoginTurn::Later) => MayLogIn::Later,
            Ok(LoginTurn::NoMore) => MayLogIn::NoMore,
            Err(error) => {
                warn!(error = %Chain(&error), "Cannot count a login to a carrier, so it is not made");
                MayLogIn::Later
            }
        }
    }

    async fn end(&self, login: &str, ended: LoginEnded) {
        let end = match ended {
            LoginEnded::Succeeded => LoginEnd::Succeeded,
            LoginEnded::Refused => LoginEnd::Refused,
            LoginEnded::NotSent => LoginEnd::NotSent,
        };
        for _ in 0..WRITTEN_WITHIN {
            match self.store.end_login(login, end).await {
                Ok(()) => return,
                Err(error) => warn!(error = %Chain(&error), "Cannot write how a login ended; trying again"),
            }
            self.clock.sleep(WRITTEN_AGAIN_AFTER).await;
        }
        error!(
            "Could not write how a login to a carrier ended: it counts as one that nobody heard the end of"
        );
    }
}
