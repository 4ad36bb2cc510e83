//! Reading one HTTP/1.1 request, strictly.
//!
//! Nothing is guessed: a request that two readers could understand differently (two lengths, a transfer encoding, a folded header)
//! is refused, and so is whatever is longer than its bound.

use std::io::{self, BufRead, Read};

/// Longest request line or header line, bytes, without its end. Claude Code's longest is below 1 KiB.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most headers. Claude Code sends about 25.
const HEADER_COUNT_MAX: usize = 128;
/// Longest body, bytes. A first request is about 150 KB, most of it tool descriptions; a conversation grows it.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, values without surrounding blanks.
    pub headers: Vec<(String, String)>,
    /// As long as `Content-Length` said.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection failed or ended inside a request.
    #[error("reading the request failed")]
    Read(#[from] io::Error),
    /// A line is longer than the bound.
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// Not `METHOD TARGET HTTP/1.1`.
    #[error("the request line is not `METHOD TARGET HTTP/1.1`")]
    RequestLine,
    /// Not `name: value`.
    #[error("header {index} is not `name: value`")]
    Header {
        /// Which, counted from 0.
        index: usize,
    },
    /// More headers than the bound.
    #[error("more than {HEADER_COUNT_MAX} headers")]
    ManyHeaders,
    /// `Content-Length` is not one decimal number.
    #[error("`Content-Length` is not one decimal number")]
    Length,
    /// A body longer than the bound.
    #[error("a body of {bytes} bytes; the bound is {BODY_BYTES_MAX}")]
    LongBody {
        /// Its length.
        bytes: usize,
    },
    /// A body in a form that this server does not read.
    #[error("`Transfer-Encoding` is not supported; send `Content-Length`")]
    TransferEncoding,
}

/// Reads the next request of a connection; `None` when the connection ended between requests.
///
/// # Errors
/// When the request is malformed, beyond a bound, or cut. The connection is then out of step and must be closed.
pub fn read_request(reader: &mut impl BufRead) -> Result<Option<Request>, RequestError> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let (method, target) = parse_request_line(&line)?;
    let headers = read_headers(reader)?;
    if headers.iter().any(|(name, _)| name == "transfer-encoding") {
        return Err(RequestError::TransferEncoding);
    }
    let mut body = vec![0; body_bytes(&headers)?];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, target, headers, body }))
}

fn parse_request_line(line: &str) -> Result<(String, String), RequestError> {
    let mut parts = line.split(' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some("HTTP/1.1"), None)
            if is_token(method) && target.starts_with('/') =>
        {
            Ok((method.to_owned(), target.to_owned()))
        }
        _ => Err(RequestError::RequestLine),
    }
}

fn read_headers(reader: &mut impl BufRead) -> Result<Vec<(String, String)>, RequestError> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?.ok_or_else(cut)?;
        if line.is_empty() {
            return Ok(headers);
        }
        if headers.len() == HEADER_COUNT_MAX {
            return Err(RequestError::ManyHeaders);
        }
        let wrong = RequestError::Header { index: headers.len() };
        match line.split_once(':') {
            Some((name, value)) if is_token(name) => {
                headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
            }
            _ => return Err(wrong),
        }
    }
}

fn body_bytes(headers: &[(String, String)]) -> Result<usize, RequestError> {
    let mut lengths = headers.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| value);
    let bytes = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        // `parse` alone would take a leading `+`.
        (Some(text), None) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_err(|_| RequestError::Length)?
        }
        _ => return Err(RequestError::Length),
    };
    if bytes > BODY_BYTES_MAX { Err(RequestError::LongBody { bytes }) } else { Ok(bytes) }
}

/// A line without its CR LF; `None` at the end of the input.
fn read_line(reader: &mut impl BufRead) -> Result<Option<String>, RequestError> {
    let mut line = Vec::new();
    let bound = LINE_BYTES_MAX + 2;
    reader.by_ref().take(bound as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return Err(if line.len() == bound { RequestError::LongLine } else { cut() });
    };
    match std::str::from_utf8(text) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\t') => Ok(Some(text.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a header line is not printable text").into()),
    }
}

fn cut() -> RequestError {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a line does not end in CR LF").into()
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Request>, RequestError> {
        read_request(&mut text.as_bytes())
    }

    #[test]
    fn requests_follow_each_other() {
        let mut input = "POST /v1/messages?beta=true HTTP/1.1\r\nContent-Length: 2\r\nX-A:\t b \r\n\r\nhiGET / HTTP/1.1\r\n\r\n".as_bytes();
        let first = read_request(&mut input).expect("valid").expect("present");
        assert_eq!(
            (first.method.as_str(), first.path(), first.body.as_slice()),
            ("POST", "/v1/messages", &b"hi"[..])
        );
        assert_eq!((first.header("x-a"), first.header("x-b")), (Some("b"), None));
        let second = read_request(&mut input).expect("valid").expect("present");
        assert_eq!((second.target.as_str(), second.body.len()), ("/", 0));
        assert!(matches!(read_request(&mut input), Ok(None)));
    }

    #[test]
    fn refusals() {
        let check = |input: &str, expect: &str| {
            let error = read(input).expect_err(input);
            assert!(format!("{error:?}").starts_with(expect), "{input:?}: {error:?}");
        };
        check("GET / HTTP/1.0\r\n\r\n", "RequestLine");
        check("GET  / HTTP/1.1\r\n\r\n", "RequestLine");
        check("GET http://elsewhere/ HTTP/1.1\r\n\r\n", "RequestLine");
        check("G(T / HTTP/1.1\r\n\r\n", "RequestLine");
        check("\r\n\r\n", "RequestLine");
        check("GET / HTTP/1.1\n\n", "Read");
        check("GET / HTTP/1.1", "Read");
        check("GET / HTTP/1.1\r\nA: b\r\n", "Read");
        check("GET / HTTP/1.1\r\nA: \u{1}\r\n\r\n", "Read");
        check("GET / HTTP/1.1\r\nA b\r\n\r\n", "Header { index: 0 }");
        check("GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n", "Header { index: 1 }");
        check("GET / HTTP/1.1\r\nA : b\r\n\r\n", "Header { index: 0 }");
        check("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", "Length");
        check("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\na", "Length");
        check("POST / HTTP/1.1\r\nContent-Length: \r\n\r\na", "Length");
        check("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "Length");
        check("POST / HTTP/1.1\r\nContent-Length: 16777217\r\n\r\na", "LongBody { bytes: 16777217 }");
        check("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", "Read");
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "TransferEncoding");
        check(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(LINE_BYTES_MAX)), "LongLine");
        check(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADER_COUNT_MAX + 1)), "ManyHeaders");
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics_and_what_is_read_fits(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            if let Ok(Some(request)) = read_request(&mut bytes.as_slice()) {
                assert!(request.body.len() <= bytes.len());
            }
        }

        #[test]
        fn what_is_written_is_read(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), value in "[ -~]{0,40}") {
            let mut bytes = format!("PUT /x HTTP/1.1\r\nA: {value}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend_from_slice(&body);
            let request = read_request(&mut bytes.as_slice()).expect("valid").expect("present");
            assert_eq!(request.body, body);
            assert_eq!(request.header("a"), Some(value.trim_matches(' ')));
        }
    }
}
