//! A page on the loopback of a host, and a way to talk with it: what the program says is one long answer (server-sent events),
//! what the page says is a request each. Enough of HTTP for that and no more: nobody else is in the host's network.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::now;
use crate::{Error, Host};

const PAGE: &str = include_str!("page.html");
/// The lines before the body of a request, and its body: three minutes of sound.
const LONGEST_HEAD: u64 = 64 * 1024;
const LONGEST_BODY: u64 = 16 * 1024 * 1024;
/// A browser sends a request in one go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a page has sent.
#[derive(Debug)]
pub(super) enum Said {
    /// A message.
    Message(Value),
    /// Sound, of which the next message tells the rest.
    Sound(Vec<u8>),
}

/// The stream of orders to the page that was opened last.
type Listener = Arc<Mutex<Option<TcpStream>>>;

/// A page, served until the host's network ends.
pub(super) struct Page {
    url: String,
    listener: Listener,
}

impl Page {
    /// Serves the page on this host. All that it sends goes to `said`, with the number of the page.
    pub(super) fn serve(
        host: &Host,
        number: usize,
        said: mpsc::Sender<(usize, Said)>,
    ) -> Result<Self, Error> {
        let bind = host.run(|| TcpListener::bind("127.0.0.1:0"))?;
        let bound =
            bind.join().map_err(|_| Error::Program("a thread that opens a port has failed".into()))?;
        let socket = bound?.map_err(Error::io("a port of the page"))?;
        let url = format!("http://{}/", socket.local_addr().map_err(Error::io("a port of the page"))?);
        let listener = Listener::default();
        let page = Self { url, listener: listener.clone() };
        let serve = move || {
            for visitor in socket.incoming().map_while(Result::ok) {
                let (listener, said) = (listener.clone(), said.clone());
                // A visitor who breaks off will ask again, or be missed.
                thread::spawn(move || {
                    drop(answer(visitor, &listener, |what| said.send((number, what)).is_ok()))
                });
            }
        };
        thread::Builder::new().name("lab page".into()).spawn(serve).map_err(Error::io("a thread"))?;
        Ok(page)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Says something to the page.
    pub(super) fn tell(&self, message: &Value) -> Result<(), Error> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = listener.as_mut() else { return Err(Error::Program("no page is open".into())) };
        stream.write_all(format!("data: {message}\n\n").as_bytes()).map_err(Error::io("the page"))
    }
}

/// A request: its first line but for the version, and its body.
fn request(stream: impl io::Read) -> io::Result<(String, Vec<u8>)> {
    let mut head = BufReader::new(stream).take(LONGEST_HEAD);
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
        first.get_or_insert_with(|| line.rsplit_once(' ').map_or(line, |(rest, _)| rest).to_owned());
    }
    if length > LONGEST_BODY {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut body = Vec::new();
    head.set_limit(length);
    head.read_to_end(&mut body)?;
    if (body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((first.unwrap_or_default(), body))
}

fn answer(mut stream: TcpStream, listener: &Listener, said: impl Fn(Said) -> bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (first, body) = request(&stream)?;
    let (mut status, mut kind, mut text) = ("200 OK", "text/plain", String::new());
    match first.as_str() {
        "GET /" => (kind, text) = ("text/html", PAGE.to_owned()),
        "GET /clock" => text = format!("{:.6}", now()),
        "GET /orders" => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n:\n\n";
            stream.write_all(head.as_bytes())?;
            *listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
            return Ok(());
        }
        "POST /sound" => drop(said(Said::Sound(body))),
        "POST /said" => match serde_json::from_slice(&body) {
            Ok(message) => drop(said(Said::Message(message))),
            Err(_) => status = "400 Bad Request",
        },
        _ => status = "404 Not Found",
    }
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_to_their_end_and_no_further() {
        let text = "POST /said HTTP/1.1\r\nHost: x\r\ncontent-length: 5\r\n\r\nhelloX";
        assert_eq!(request(text.as_bytes()).expect("whole"), ("POST /said".into(), b"hello".to_vec()));
        let text = "GET / HTTP/1.1\r\n\r\n";
        assert_eq!(request(text.as_bytes()).expect("whole"), ("GET /".into(), Vec::new()));
    }

    #[test]
    fn requests_that_are_cut_or_too_long_fail() {
        for text in ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort", ""] {
            assert!(request(text.as_bytes()).is_err(), "{text}");
        }
        let long = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", LONGEST_BODY + 1);
        assert_eq!(request(long.as_bytes()).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
        let endless = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(20_000));
        assert!(request(endless.as_bytes()).is_err());
    }
}
