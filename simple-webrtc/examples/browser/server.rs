//! A page on loopback, and a way to talk with it: what the program says is one long answer (server-sent events), what the
//! page says is a request each. Enough of HTTP for that and no more.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const PAGE: &str = include_str!("page.html");
/// A description has 16 KiB at most, and JSON writes its line ends as two bytes.
const LONGEST_REQUEST: u64 = 64 * 1024;
/// Messages that may wait on either side. A call has about 30 in all.
const WAITING: usize = 256;
/// A browser sends a request in one go.
const PATIENCE: Duration = Duration::from_secs(10);

type Listener = Arc<Mutex<Option<mpsc::Sender<Value>>>>;

/// The page that was opened last.
pub(crate) struct Page {
    url: String,
    listener: Listener,
    said: mpsc::Receiver<Value>,
    serving: JoinHandle<()>,
}

impl Page {
    /// Serves the page at this port of loopback; 0: at any that is free.
    pub(crate) async fn serve(port: u16) -> io::Result<Self> {
        let socket = TcpListener::bind(("127.0.0.1", port)).await?;
        let host = socket.local_addr()?.to_string();
        let (sender, said) = mpsc::channel(WAITING);
        let listener = Listener::default();
        let url = format!("http://{host}/");
        let serving = tokio::spawn(accept(socket, host.into(), listener.clone(), sender));
        Ok(Self { url, listener, said, serving })
    }

    /// Where to open it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Says something to the page. Lost where none is open, or where it has not listened for long.
    pub(crate) fn tell(&self, message: Value) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(|listener| listener.try_send(message).is_err()) {
            eprintln!("no page listens");
        }
    }

    /// What the page says next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.said.recv().await
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(socket: TcpListener, host: Arc<str>, listener: Listener, said: mpsc::Sender<Value>) {
    let mut visitors = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        while visitors.try_join_next().is_some() {}
        let (host, listener, said) = (host.clone(), listener.clone(), said.clone());
        visitors.spawn(async move {
            if let Err(error) = serve(stream, &host, &listener, &said).await {
                tracing::debug!(%error, "a request ended early");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    host: &str,
    listener: &Listener,
    said: &mpsc::Sender<Value>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let request = tokio::time::timeout(PATIENCE, Request::read(BufReader::new(read), host));
    let request = request.await.map_err(|_| io::ErrorKind::TimedOut)??;
    let path = request.line.split(['?', ' ']).take(2).collect::<Vec<_>>().join(" ");
    match (&*path, request.trusted) {
        (_, false) => write.write_all(&answer("403 Forbidden", "text/plain", "not for you")).await,
        ("GET /", _) => write.write_all(&answer("200 OK", "text/html", PAGE)).await,
        ("GET /events", _) => {
            let (sender, mut messages) = mpsc::channel(WAITING);
            *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            // With a comment to begin with: Firefox says that it listens once something has come.
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n:\n\n";
            write.write_all(head.as_bytes()).await?;
            while let Some(message) = messages.recv().await {
                write.write_all(format!("data: {message}\n\n").as_bytes()).await?;
            }
            Ok(())
        }
        ("POST /say", _) => match serde_json::from_slice(&request.body) {
            Ok(message) => {
                // The program may be gone; then nobody needs the answer either.
                let _ = said.send(message).await;
                write.write_all(&answer("200 OK", "text/plain", "")).await
            }
            Err(_) => write.write_all(&answer("400 Bad Request", "text/plain", "no JSON")).await,
        },
        _ => write.write_all(&answer("404 Not Found", "text/plain", "nothing here")).await,
    }
}

fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

struct Request {
    line: String,
    body: Vec<u8>,
    /// Whether it is of our page, and not of another one that happens to be open in the same browser.
    trusted: bool,
}

impl Request {
    async fn read(reader: BufReader<tokio::net::tcp::OwnedReadHalf>, host: &str) -> io::Result<Self> {
        let mut reader = reader.take(LONGEST_REQUEST);
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let (mut length, mut trusted) = (0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).await?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match &*name.to_ascii_lowercase() {
                "host" => trusted |= value == host,
                "origin" if value.strip_prefix("http://") != Some(host) => {
                    return Ok(Self { line, body: Vec::new(), trusted: false });
                }
                "content-length" => length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?,
                _ => {}
            }
        }
        let mut body = Vec::new();
        reader.take(length).read_to_end(&mut body).await?;
        Ok(Self { line: line.trim_end().to_owned(), body, trusted })
    }
}
