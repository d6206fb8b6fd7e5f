//! A stand-in for S3 on this machine: objects in memory, with conditional writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The one bucket.
const BUCKET: &str = "/bucket";

/// Content, and the number of its version.
type Objects = BTreeMap<String, (Vec<u8>, u64)>;

#[derive(Default)]
struct State {
    objects: Mutex<Objects>,
    versions: AtomicU64,
    /// Whether conditions are not looked at.
    is_unconditional: AtomicBool,
    /// Whether runs may not be written.
    is_denied: AtomicBool,
}

/// A server.
pub(crate) struct S3 {
    port: u16,
    state: Arc<State>,
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    e_tag: Option<u64>,
    body: Vec<u8>,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let of_server = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_server);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { port, state }
    }

    /// Variables for a program that uses it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "key".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
        ]
    }

    /// Names of objects with an ending.
    pub(crate) fn names(&self, ending: &str) -> Vec<String> {
        let objects = self.state.objects.lock().unwrap();
        objects.keys().filter(|key| key.ends_with(ending)).cloned().collect()
    }

    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        let version = self.state.versions.fetch_add(1, Ordering::Relaxed);
        self.state.objects.lock().unwrap().insert(key.into(), (content.into(), version));
    }

    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        self.state.objects.lock().unwrap()[key].0.clone()
    }

    pub(crate) fn ignore_conditions(&self) {
        self.state.is_unconditional.store(true, Ordering::Relaxed);
    }

    pub(crate) fn deny_runs(&self, is_denied: bool) {
        self.state.is_denied.store(is_denied, Ordering::Relaxed);
    }
}

fn serve(stream: &TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        let Response { status, e_tag, body } = answer(&request, state);
        let e_tag = e_tag.map_or(String::new(), |version| format!("ETag: \"{version}\"\r\n"));
        let head = format!(
            "HTTP/1.1 {status}\r\n{e_tag}Last-Modified: Sat, 28 Nov 2026 12:00:00 GMT\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        if stream.write_all(&[head.into_bytes(), body].concat()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let key = path.strip_prefix(BUCKET).unwrap_or("elsewhere").trim_start_matches('/').to_owned();
    let plain = |text: &str| text.replace("%2F", "/");
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), plain(value))
    };
    let query = query.split('&').map(pair).collect();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, key, query, headers, body })
}

fn answer(request: &Request, state: &State) -> Response {
    let Request { method, key, query, headers, body } = request;
    let only = |status| Response { status, e_tag: None, body: Vec::new() };
    let mut objects = state.objects.lock().unwrap();
    match method.as_str() {
        _ if key.starts_with("elsewhere") => only("404 Not Found"),
        "PUT" => {
            let there = objects.get(key).map(|(_, version)| format!("\"{version}\""));
            let is_met = match (headers.get("if-none-match"), headers.get("if-match")) {
                (Some(_), _) => there.is_none(),
                (None, Some(expected)) => there.as_ref() == Some(expected),
                (None, None) => true,
            };
            if state.is_denied.load(Ordering::Relaxed) && key.ends_with(".json") {
                return only("403 Forbidden");
            }
            if !is_met && !state.is_unconditional.load(Ordering::Relaxed) {
                return only("412 Precondition Failed");
            }
            let version = state.versions.fetch_add(1, Ordering::Relaxed);
            objects.insert(key.clone(), (body.clone(), version));
            Response { e_tag: Some(version), ..only("200 OK") }
        }
        "GET" if query.contains_key("list-type") => {
            let prefix = query.get("prefix").map_or("", String::as_str);
            Response { body: list(&objects, prefix).into_bytes(), ..only("200 OK") }
        }
        "GET" => match objects.get(key) {
            Some((content, version)) => {
                Response { e_tag: Some(*version), body: content.clone(), ..only("200 OK") }
            }
            None => only("404 Not Found"),
        },
        // Of several objects, whose names are in the body.
        "POST" => {
            let text = String::from_utf8_lossy(body).into_owned();
            let mut answer = "<DeleteResult>".to_owned();
            for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                objects.remove(key);
                write!(answer, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
            }
            Response { body: (answer + "</DeleteResult>").into_bytes(), ..only("200 OK") }
        }
        "DELETE" => {
            objects.remove(key);
            only("204 No Content")
        }
        _ => only("405 Method Not Allowed"),
    }
}

/// The objects and folders under a prefix.
fn list(objects: &Objects, prefix: &str) -> String {
    let mut text = String::from("<ListBucketResult>");
    let mut folders = Vec::new();
    for (key, (content, version)) in objects {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match rest.split_once('/') {
            Some((folder, _)) if folders.last() == Some(&folder) => {}
            Some((folder, _)) => folders.push(folder),
            None => write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>2026-11-28T12:00:00.000Z</LastModified><ETag>\"{version}\"</ETag><Size>{}</Size></Contents>",
                content.len()
            )
            .unwrap(),
        }
    }
    for folder in folders {
        write!(text, "<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>").unwrap();
    }
    text + "</ListBucketResult>"
}
