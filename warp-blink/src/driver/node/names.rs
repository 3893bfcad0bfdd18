//! Names: what the system's resolver, or the DNS servers that it uses, say of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ResolverConfig, ResolverOpts},
    name_server::TokioConnectionProvider,
    proto::{ProtoError, ProtoErrorKind, op::ResponseCode},
    system_conf::read_system_conf,
};

use crate::ports::gossip::{Answers, Question, ResolveError};

/// How long a name may take to resolve. The resolver of glibc tries each server for 5 s.
pub(super) const RESOLVE: Duration = Duration::from_secs(5);

/// The most texts of one name that are handed on: a reach counts fewer.
const MAX_TEXTS: usize = 64;

/// Asks the system's resolver. It gives both families at once, of which each question takes its own. Texts (`/dnsaddr/`) it does not
/// give: the DNS servers that it uses are asked for them, and no others.
pub(super) async fn lookup(question: &Question) -> Result<Answers, ResolveError> {
    let (Question::Ip4(name) | Question::Ip6(name) | Question::Text(name)) = question;
    // RFC 6761, section 6.4: such a name never exists, and no server need be asked.
    if name.trim_end_matches('.').rsplit('.').next().is_some_and(|top| top.eq_ignore_ascii_case("invalid")) {
        return Err(ResolveError::NoSuchName("names under .invalid never exist".into()));
    }
    let late = |_| ResolveError::Failed(format!("no answer within {RESOLVE:?}"));
    if matches!(question, Question::Text(_)) {
        // Read anew each time: another network has other servers.
        let (config, options) = read_system_conf().map_err(|error| {
            ResolveError::Failed(format!("the system's DNS servers are not known: {error}"))
        })?;
        let texts = tokio::time::timeout(RESOLVE, texts(config, options, name)).await.map_err(late)??;
        return Ok(Answers::Text(texts));
    }
    let found =
        tokio::time::timeout(RESOLVE, tokio::net::lookup_host((name.as_str(), 0))).await.map_err(late)?;
    let ips: Vec<IpAddr> = found.map_err(|error| no_such_name(&error))?.map(|socket| socket.ip()).collect();
    Ok(match question {
        Question::Ip4(_) => Answers::Ip4(ips.iter().filter_map(ip4).collect()),
        _ => Answers::Ip6(ips.iter().filter_map(ip6).collect()),
    })
}

/// The texts of a name, each in one piece (RFC 1035 section 3.3.14 lets one consist of several).
async fn texts(
    config: ResolverConfig,
    mut options: ResolverOpts,
    name: &str,
) -> Result<Vec<String>, ResolveError> {
    // The name is a whole one: nothing is to be hung on to it, such as the domain of the network that this machine is in.
    let name = format!("{}.", name.trim_end_matches('.'));
    // One answer is wanted once.
    options.cache_size = 0;
    let provider = TokioConnectionProvider::default();
    let resolver = TokioResolver::builder_with_config(config, provider).with_options(options).build();
    let found = resolver.txt_lookup(name).await.map_err(|error| {
        // "Nothing found" is also what it makes of a server that failed, which may pass.
        let none = [ResponseCode::NXDomain, ResponseCode::NoError];
        match error.proto().map(ProtoError::kind) {
            Some(ProtoErrorKind::NoRecordsFound { response_code, .. }) if none.contains(response_code) => {
                ResolveError::NoSuchName("no such name, or it has no texts".to_owned())
            }
            _ => ResolveError::Failed(error.to_string()),
        }
    })?;
    let whole = |text: &hickory_resolver::proto::rr::rdata::TXT| {
        // What is no text is no address.
        String::from_utf8(text.iter().flat_map(|part| part.iter().copied()).collect()).ok()
    };
    Ok(found.iter().filter_map(whole).take(MAX_TEXTS).collect())
}

fn ip4(ip: &IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    }
}

fn ip6(ip: &IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    }
}

/// The resolver's error, of which the standard library keeps only the words: those of glibc and musl, and of BSD and macOS,
/// for EAI_NONAME. A resolver that cannot be asked says something else.
fn no_such_name(error: &std::io::Error) -> ResolveError {
    let words = error.to_string();
    let none = ["Name or service not known", "Name does not resolve", "nodename nor servname provided"];
    if none.iter().any(|said| words.contains(said)) {
        ResolveError::NoSuchName(words)
    } else {
        ResolveError::Failed(words)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hickory_resolver::{
        config::NameServerConfig,
        proto::{
            op::{Message, MessageType},
            rr::{RData, Record, RecordType, rdata::TXT},
            serialize::binary::BinEncodable,
            xfer::Protocol,
        },
    };
    use tokio::net::UdpSocket;

    use super::*;

    /// A DNS server that knows one name, and says nothing of another.
    async fn server() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let asked = Message::from_vec(&buffer[..len]).unwrap();
                let question = asked.queries()[0].clone();
                assert_eq!(question.query_type(), RecordType::TXT);
                let mut answer = Message::new();
                answer
                    .set_id(asked.id())
                    .set_message_type(MessageType::Response)
                    .set_recursion_available(true);
                let name = question.name().to_ascii();
                answer.add_query(question.clone());
                match name.as_str() {
                    "_dnsaddr.known.example." => {
                        let texts = [
                            TXT::new(vec!["dnsaddr=/ip4/192.0.2.1".into(), "/tcp/1".into()]),
                            TXT::from_bytes(vec![&[0xff, 0xfe]]),
                            TXT::new(vec!["another".into()]),
                        ];
                        for text in texts {
                            answer.add_answer(Record::from_rdata(
                                question.name().clone(),
                                60,
                                RData::TXT(text),
                            ));
                        }
                    }
                    "_dnsaddr.broken.example." => {
                        answer.set_response_code(ResponseCode::ServFail);
                    }
                    _ => {
                        answer.set_response_code(ResponseCode::NXDomain);
                    }
                }
                let _ = socket.send_to(&answer.to_bytes().unwrap(), from).await;
            }
        });
        at
    }

    #[tokio::test]
    async fn texts_are_asked_of_the_servers_and_each_is_one() {
        let mut config = ResolverConfig::new();
        config.add_name_server(NameServerConfig::new(server().await, Protocol::Udp));
        let ask = |name: &'static str| texts(config.clone(), ResolverOpts::default(), name);
        let found = ask("_dnsaddr.known.example").await.unwrap();
        assert_eq!(found, ["dnsaddr=/ip4/192.0.2.1/tcp/1", "another"]);
        let error = ask("_dnsaddr.nowhere.example").await.unwrap_err();
        assert!(matches!(&error, ResolveError::NoSuchName(_)), "{error}");
        let error = ask("_dnsaddr.broken.example").await.unwrap_err();
        assert!(matches!(&error, ResolveError::Failed(_)), "{error}");
        let error = ask("not a name..").await.unwrap_err();
        assert!(!error.to_string().is_empty());
    }

    #[tokio::test]
    async fn nobody_is_asked_for_what_never_exists() {
        for question in [Question::Ip4("a.invalid".into()), Question::Text("_dnsaddr.a.INVALID.".into())] {
            assert!(matches!(lookup(&question).await, Err(ResolveError::NoSuchName(_))));
        }
    }
}
