//! Calls of the API as any customer makes them.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Somebody who calls: with or without a token and a session.
#[derive(Clone)]
pub(crate) struct Caller {
    address: SocketAddr,
    pub(crate) bearer: String,
    pub(crate) session: String,
    pub(crate) key: Option<String>,
}

/// An answer; a body that is no JSON stands as a text.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The `errorCode` of session and callback calls.
    pub(crate) fn error_code(&self) -> &str {
        self.body["errorCode"].as_str().unwrap_or_default()
    }

    /// The code in brackets that the message of eSIM calls begins with.
    pub(crate) fn bracketed(&self) -> &str {
        let message = self.body["errorMessage"].as_str().unwrap_or_default();
        message.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(message)
    }

    pub(crate) fn request_id(&self) -> &str {
        self.body["requestId"]
            .as_str()
            .unwrap_or_else(|| panic!("no requestId: {} {}", self.status, self.body))
    }
}

impl Caller {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, bearer: String::new(), session: String::new(), key: None }
    }

    /// The same caller, now that the server is there.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// Asks for a bearer token.
    pub(crate) async fn get_token(&mut self, key: &str, secret: &str) -> Answer {
        let answer = self.token_call("token", key, secret, "grant_type=client_credentials").await;
        self.bearer = answer.body["access_token"].as_str().unwrap_or_default().to_owned();
        answer
    }

    /// Calls the token's `token` or `revoke`.
    pub(crate) async fn token_call(&self, call: &str, key: &str, secret: &str, form: &str) -> Answer {
        let request = Request::post(format!("/api/ts/v1/oauth2/{call}"))
            .header("Authorization", format!("Basic {}", base64(format!("{key}:{secret}").as_bytes())))
            .header("Content-Type", "application/x-www-form-urlencoded");
        self.exchange(request.body(Full::from(form.to_owned())).unwrap()).await
    }

    /// Opens a session.
    pub(crate) async fn log_in(&mut self, username: &str, password: &str) -> Answer {
        let body = json!({"username": username, "password": password});
        let answer = self.post("/api/m2m/v1/session/login", &body).await;
        self.session = answer.body["sessionToken"].as_str().unwrap_or_default().to_owned();
        answer
    }

    /// The same caller with an `Idempotency-Key`.
    pub(crate) fn under_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.exchange(self.request(method, path, body)).await
    }

    /// An answer whose body is read as it comes.
    pub(crate) async fn stream(&self, path: &str) -> Incoming {
        let response = self.send(self.request(Method::GET, path, None)).await;
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        if !self.bearer.is_empty() {
            request = request.header("Authorization", format!("Bearer {}", self.bearer));
        }
        if !self.session.is_empty() {
            request = request.header("VZ-M2M-Token", &self.session);
        }
        if let Some(key) = &self.key {
            request = request.header("Idempotency-Key", key);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        request.body(body.map_or_else(Full::default, |body| Full::from(body.to_string()))).unwrap()
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        let (head, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
        request.headers_mut().insert("Host", self.address.to_string().parse().unwrap());
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        let (mut sender, connection): (SendRequest<Full<Bytes>>, _) =
            handshake(TokioIo::new(stream)).await.expect("the server speaks HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("the server answers")
    }
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        let digit = |place: usize| char::from(DIGITS[(bits >> (18 - 6 * place)) & 63]);
        text.extend((0..4).map(|place| if place <= chunk.len() { digit(place) } else { '=' }));
    }
    text
}
