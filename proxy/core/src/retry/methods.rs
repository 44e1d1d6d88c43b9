//! Which requests may reach an application twice. Sending a POST twice may be paying twice, so whoever wants that names it.

use std::str::FromStr;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Options,
    Put,
    Delete,
    Patch,
    Post,
    /// Calls of gRPC, which are POST, and no other POST.
    Grpc,
}

impl Method {
    pub const ALL: [Method; 8] = [
        Method::Get,
        Method::Head,
        Method::Options,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Post,
        Method::Grpc,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Post => "POST",
            Method::Grpc => "gRPC",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no method: write GET, HEAD, OPTIONS, PUT, DELETE, PATCH, POST, or gRPC")]
pub struct InvalidMethod(String);

impl FromStr for Method {
    type Err = InvalidMethod;

    fn from_str(word: &str) -> Result<Method, InvalidMethod> {
        let method = Method::ALL
            .into_iter()
            .find(|method| method.as_str() == word);
        method.ok_or_else(|| InvalidMethod(word.chars().take(32).collect()))
    }
}

/// Which requests may be sent again although an application may have seen them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Methods(u8);

impl Default for Methods {
    /// Those that change nothing (RFC 9110, 9.2.1).
    fn default() -> Methods {
        [Method::Get, Method::Head, Method::Options]
            .into_iter()
            .collect()
    }
}

impl FromIterator<Method> for Methods {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Methods {
        Methods(methods.into_iter().fold(0, |all, each| all | each.bit()))
    }
}

impl Methods {
    pub fn has(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |it| self.has(*it))
    }

    /// Whether a request is one of these. Methods are told apart by case (RFC 9110, 9.1).
    pub fn cover(self, method: &str, call: Call) -> bool {
        let named = Method::ALL
            .into_iter()
            .find(|each| *each != Method::Grpc && each.as_str() == method);
        let is_call = named == Some(Method::Post) && call == Call::Grpc;
        named.is_some_and(|named| self.has(named)) || (is_call && self.has(Method::Grpc))
    }

    /// Whether calls of gRPC are among them.
    pub fn cover_grpc(self) -> bool {
        self.cover(Method::Post.as_str(), Call::Grpc)
    }
}

/// What a request is by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Grpc,
    Other,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_changes_nothing_is_covered_unless_more_is_named() {
        let of = |text: &str| {
            text.split(',')
                .map(|word| word.parse::<Method>().unwrap())
                .collect::<Methods>()
        };
        let requests = [
            ("GET", Call::Other),
            ("HEAD", Call::Other),
            ("OPTIONS", Call::Other),
            ("PUT", Call::Other),
            ("POST", Call::Other),
            ("POST", Call::Grpc),
            ("get", Call::Other),
            ("gRPC", Call::Other),
            ("PURGE", Call::Other),
        ];
        for (methods, covered) in [
            (Methods::default(), &requests[..3]),
            (of("GET"), &requests[..1]),
            (of("PUT,POST"), &requests[3..6]),
            (of("gRPC"), &requests[5..6]),
        ] {
            for (method, call) in requests {
                let is_covered = covered.contains(&(method, call));
                assert_eq!(
                    methods.cover(method, call),
                    is_covered,
                    "{methods:?} {method}"
                );
            }
        }
        assert!(of("gRPC").cover_grpc() && of("POST").cover_grpc() && !of("GET").cover_grpc());
    }

    #[test]
    fn what_is_no_method_is_refused_with_those_that_there_are() {
        for word in ["", "get", "TRACE", "grpc", "CONNECT"] {
            let error = word.parse::<Method>().unwrap_err().to_string();
            assert!(error.contains("write GET, HEAD"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn methods_are_written_and_read_again(bits in any::<u8>()) {
            let methods = Methods(bits);
            let again: Methods = methods.iter().map(|each| each.as_str().parse::<Method>().unwrap()).collect();
            prop_assert_eq!(methods, again);
        }
    }
}
