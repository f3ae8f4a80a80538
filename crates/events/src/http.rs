//! HTTP in front of a function: a request becomes the event that API Gateway, a function URL or a
//! load balancer would send, and what the function answers becomes a response.

mod event;
mod response;

pub use event::{Request, event};
pub use response::{Response, ResponseError, response};

/// Who would send the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An HTTP API of API Gateway, payload format 2.0.
    ApiGatewayV2,
    /// A REST API of API Gateway with proxy integration, payload format 1.0.
    ApiGatewayProxy,
    /// A function URL.
    FunctionUrl,
    /// A load balancer, one value a header.
    Alb,
}

impl Format {
    /// All of them, the usual one first.
    pub const ALL: [Self; 4] =
        [Self::ApiGatewayV2, Self::ApiGatewayProxy, Self::FunctionUrl, Self::Alb];

    /// The name, which is that of its sample event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiGatewayV2 => "apigateway-v2",
            Self::ApiGatewayProxy => "apigateway-proxy",
            Self::FunctionUrl => "function-url",
            Self::Alb => "alb",
        }
    }
}

/// Belongs to one connection or is said anew on each, so that it is passed on in neither direction.
fn is_of_connection(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|of| name.eq_ignore_ascii_case(of))
}

#[cfg(test)]
mod tests;
