//! Connections over real sockets, to listeners that behave and to listeners that do not.

mod listener;

use bytes::Bytes;
use reveille_callbacks::{AttemptFailed, Connection, Guard, ListenerUrl, Loopback, Tls};
use rustls::RootCertStore;
use tokio::join;
use tokio::net::TcpStream;

use listener::{Certified, Listener, Peer, status};

const BODY: Bytes = Bytes::from_static(b"{\"requestId\":\"1\"}");

fn guard(loopback: Loopback) -> Guard {
    Guard::new(Vec::new(), loopback)
}

fn checked(url: &str) -> ListenerUrl {
    guard(Loopback::Allowed).check(url).expect(url)
}

async fn open(url: &str, loopback: Loopback) -> Result<Connection, AttemptFailed> {
    let nobody = Tls::trusting(RootCertStore::empty());
    Connection::open(&checked(url), &guard(loopback), &nobody).await
}

/// A connection to `listener`, seen from both ends.
async fn connected(listener: &Listener) -> (Connection, Peer<TcpStream>) {
    let connection = open(&listener.url(), Loopback::Allowed).await.expect("a connection");
    (connection, listener.accept().await)
}

/// What a POST comes to when the listener answers it with `answer`.
async fn posted(connection: &mut Connection, peer: &mut Peer<TcpStream>, answer: &str) -> u16 {
    let (posted, _) = join!(connection.post(BODY), peer.answer(answer));
    posted.expect("a status")
}

fn failure<T>(result: Result<T, AttemptFailed>) -> AttemptFailed {
    result.err().expect("it should fail")
}

#[tokio::test]
async fn a_post_has_its_body_and_headers_and_returns_the_status() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    assert_eq!(connection.address(), listener.address());
    let answer = status(503);
    let (posted, received) = join!(connection.post(BODY), peer.answer(&answer));
    assert_eq!(posted.unwrap(), 503);
    assert_eq!(received.body, BODY);
    let mut lines: Vec<_> = received.head.trim_end().lines().collect();
    lines[1..].sort_unstable();
    let expected = [
        "post /callback?a=b http/1.1".into(),
        "content-length: 17".into(),
        "content-type: application/json".into(),
        format!("host: {}", listener.address()),
        concat!("user-agent: reveille/", env!("CARGO_PKG_VERSION")).into(),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn one_connection_carries_many_posts() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    for answer in [200, 204, 500, 200] {
        assert_eq!(posted(&mut connection, &mut peer, &status(answer)).await, answer);
        assert!(connection.is_open());
    }
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n{}", "x".repeat(65536));
    assert_eq!(posted(&mut connection, &mut peer, &long).await, 200);
    assert!(connection.is_open(), "64 KiB are within the limit");
    assert!(!listener.was_called(), "there was only one connection");
}

#[tokio::test]
async fn a_redirect_is_a_status_and_is_not_followed() {
    let (listener, elsewhere) = (Listener::start().await, Listener::start().await);
    let (mut connection, mut peer) = connected(&listener).await;
    let answer =
        format!("HTTP/1.1 307 Elsewhere\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    assert_eq!(posted(&mut connection, &mut peer, &answer).await, 307);
    assert!(!elsewhere.was_called());
    assert!(!listener.was_called());
}

#[tokio::test]
async fn a_cookie_is_not_kept() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(posted(&mut connection, &mut peer, answer).await, 200);
    let (_, received) = join!(connection.post(BODY), peer.answer(answer));
    assert!(!received.head.contains("cookie"), "{}", received.head);
}

#[tokio::test]
async fn an_answer_of_1_mib_counts_but_ends_the_connection() {
    let mib = "x".repeat(1024 * 1024);
    for answer in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{mib}", mib.len()),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{mib}\r\n0\r\n\r\n", mib.len()),
        format!("HTTP/1.1 200 OK\r\n\r\n{mib}"),
    ] {
        let listener = Listener::start().await;
        let (mut connection, mut peer) = connected(&listener).await;
        assert_eq!(posted(&mut connection, &mut peer, &answer).await, 200);
        assert!(!connection.is_open());
        assert!(peer.request().await.is_none(), "the socket is closed while the connection still exists");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_counts_but_ends_the_connection() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    let (posted, ()) = join!(connection.post(BODY), async move {
        peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await;
    });
    assert_eq!(posted.unwrap(), 200);
    assert!(!connection.is_open());
}

#[tokio::test]
async fn an_answer_that_says_close_ends_the_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let listener = Listener::start().await;
        let (mut connection, mut peer) = connected(&listener).await;
        posted(&mut connection, &mut peer, answer).await;
        assert!(!connection.is_open(), "{answer}");
        assert!(failure(connection.post(BODY).await).is_stale());
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_listener_closed_is_stale() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    assert_eq!(posted(&mut connection, &mut peer, &status(200)).await, 200);
    drop(peer);
    let failed = failure(connection.post(BODY).await);
    assert!(failed.is_stale(), "{failed:?}");
    assert!(!connection.is_open());
    assert_eq!(
        failed.to_string(),
        format!("{} closed the connection that was kept open", listener.address())
    );
}

#[tokio::test]
async fn an_idle_connection_that_the_listener_closed_with_a_farewell_is_stale() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    assert_eq!(posted(&mut connection, &mut peer, &status(200)).await, 200);
    peer.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n").await;
    drop(peer);
    tokio::task::yield_now().await; // lets the runtime see what came
    let failed = failure(connection.post(BODY).await);
    assert!(failed.is_stale(), "{failed:?}");
}

#[tokio::test]
async fn a_kept_connection_closed_after_the_post_and_before_any_answer_is_stale() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    assert_eq!(posted(&mut connection, &mut peer, &status(200)).await, 200);
    let (failed, ()) = join!(connection.post(BODY), async move {
        peer.request().await;
    });
    assert!(failure(failed).is_stale());
}

#[tokio::test]
async fn a_kept_connection_closed_within_the_head_of_an_answer_is_not_stale() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    assert_eq!(posted(&mut connection, &mut peer, &status(200)).await, 200);
    let (failed, ()) = join!(connection.post(BODY), async move {
        peer.answer("HTTP/1.1 200 OK\r\nConte").await;
    });
    let failed = failure(failed);
    assert!(!failed.is_stale(), "{failed:?}");
}

#[tokio::test]
async fn a_fresh_connection_that_is_closed_without_an_answer_is_not_stale() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    let (failed, ()) = join!(connection.post(BODY), async move {
        peer.request().await;
    });
    let failed = failure(failed);
    assert!(!failed.is_stale(), "{failed:?}");
    assert_eq!(failed.to_string(), format!("{} closed the connection without an answer", listener.address()));
}

#[tokio::test]
async fn an_answer_that_is_not_http_fails_and_ends_the_connection() {
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1024 * 1024));
    for answer in ["SSH-2.0-OpenSSH_9.9\r\n\r\n", &endless] {
        let listener = Listener::start().await;
        let (mut connection, mut peer) = connected(&listener).await;
        let (failed, _) = join!(connection.post(BODY), peer.answer(answer));
        let failed = failure(failed);
        assert!(matches!(failed, AttemptFailed::NotHttp { .. }), "{failed:?}");
        assert!(!connection.is_open());
    }
}

#[tokio::test]
async fn dropping_a_post_closes_the_connection() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    tokio::select! {
        biased;
        _ = connection.post(BODY) => panic!("nobody answered"),
        received = peer.request() => assert!(received.is_some()),
    }
    assert!(!connection.is_open());
    assert!(peer.request().await.is_none());
}

#[tokio::test]
async fn dropping_a_connection_closes_it() {
    let listener = Listener::start().await;
    let (mut connection, mut peer) = connected(&listener).await;
    assert_eq!(posted(&mut connection, &mut peer, &status(200)).await, 200);
    drop(connection);
    assert!(peer.request().await.is_none());
}

#[tokio::test]
async fn a_refused_connection_says_by_whom() {
    let listener = Listener::start().await;
    let (url, address) = (listener.url(), listener.address());
    drop(listener);
    let failed = failure(open(&url, Loopback::Allowed).await);
    assert_eq!(failed.to_string(), format!("connection refused by {address}"));
}

#[tokio::test]
async fn a_name_that_leads_to_a_refused_address_is_not_connected_to() {
    let listener = Listener::start().await;
    let url = format!("http://localhost:{}/", listener.address().port());
    let failed = failure(open(&url, Loopback::Refused).await);
    assert!(matches!(failed, AttemptFailed::NotAdmitted { address } if address.is_loopback()), "{failed:?}");
    assert!(!listener.was_called());
}

#[tokio::test]
async fn a_name_is_connected_to_at_its_admitted_addresses_only() {
    let listener = Listener::start().await;
    let url = checked(&format!("http://localhost:{}/", listener.address().port()));
    let only = Guard::new(vec!["127.0.0.1/32".parse().unwrap()], Loopback::Refused);
    let connection = Connection::open(&url, &only, &Tls::trusting(RootCertStore::empty())).await;
    assert_eq!(connection.expect("a connection").address(), listener.address());
}

#[tokio::test]
async fn an_address_that_is_no_longer_admitted_is_not_connected_to() {
    let listener = Listener::start().await;
    let failed = failure(open(&listener.url(), Loopback::Refused).await);
    assert_eq!(failed.to_string(), "listeners may not be at 127.0.0.1");
    assert!(!listener.was_called());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_fails() {
    let failed = failure(open("http://nowhere.invalid/", Loopback::Allowed).await);
    assert_eq!(failed.to_string(), "the name nowhere.invalid could not be resolved");
}

/// What the second of two POSTs by TLS comes to.
async fn posted_by(tls: &Tls, listener: &Listener, certified: &Certified) -> Result<u16, AttemptFailed> {
    let url = checked(&format!("https://{}/", listener.address()));
    let (posted, ()) = join!(
        async {
            let mut connection = Connection::open(&url, &guard(Loopback::Allowed), tls).await?;
            connection.post(BODY).await?;
            connection.post(BODY).await
        },
        async {
            if let Some(mut peer) = certified.accept(listener).await {
                peer.answer(&status(200)).await;
                peer.answer(&status(202)).await;
            }
        }
    );
    posted
}

#[tokio::test]
async fn a_listener_whose_certificate_is_trusted_is_posted_to_by_tls() {
    let certified = Certified::by("itself", "127.0.0.1");
    let tls = Tls::trusting(certified.roots.clone());
    assert_eq!(posted_by(&tls, &Listener::start().await, &certified).await.unwrap(), 202);
}

#[tokio::test]
async fn a_listener_with_a_certificate_of_its_own_making_is_refused() {
    let (certified, another) = (Certified::by("itself", "127.0.0.1"), Certified::by("another", "127.0.0.1"));
    let listener = Listener::start().await;
    let failed = failure(posted_by(&Tls::trusting(another.roots), &listener, &certified).await);
    assert!(matches!(failed, AttemptFailed::Tls { .. }), "{failed:?}");
    let address = listener.address();
    let told = format!("the certificate of {address} is not signed by an authority that this server trusts");
    assert_eq!(failed.to_string(), told);
}

#[tokio::test]
async fn the_systems_roots_do_not_trust_a_certificate_of_the_listeners_own_making() {
    let certified = Certified::by("itself", "127.0.0.1");
    let failed = failure(posted_by(&Tls::system(), &Listener::start().await, &certified).await);
    assert!(matches!(failed, AttemptFailed::Tls { .. } | AttemptFailed::NoRoots), "{failed:?}");
}

#[tokio::test]
async fn a_listener_with_a_certificate_for_another_name_is_refused() {
    let certified = Certified::by("itself", "listener.example");
    let (tls, listener) = (Tls::trusting(certified.roots.clone()), Listener::start().await);
    let failed = failure(posted_by(&tls, &listener, &certified).await);
    assert_eq!(failed.to_string(), format!("the certificate of {} is for another host", listener.address()));
}

#[tokio::test]
async fn without_roots_an_https_listener_fails_and_says_why() {
    let listener = Listener::start().await;
    let failed = failure(open(&format!("https://{}/", listener.address()), Loopback::Allowed).await);
    assert_eq!(failed.to_string(), "this server has no root certificates to verify a listener's with");
}

#[tokio::test]
async fn a_listener_that_speaks_no_tls_fails_an_https_attempt() {
    let listener = Listener::start().await;
    let url = checked(&format!("https://{}/", listener.address()));
    let tls = Tls::trusting(Certified::by("itself", "127.0.0.1").roots);
    let guard = guard(Loopback::Allowed);
    let (failed, ()) = join!(Connection::open(&url, &guard, &tls), async {
        listener.accept().await.send(&status(400)).await;
    });
    assert_eq!(failure(failed).to_string(), format!("no TLS connection with {}", listener.address()));
}
