use std::sync::Arc;

use tonic::client::GrpcService;
use tonic::codegen::{Body, BoxFuture, Bytes, Context, GrpcMethod, Poll, StdError, http};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{LONGEST_CSR, SignRequest, SignResponse};

const SERVICE: &str = "aviary.identity.v1.Identity";
const METHOD: &str = "Sign";
const PATH: &str = "/aviary.identity.v1.Identity/Sign";

/// More than a request for a signature may have, so that whoever answers can say what is wrong with it.
const LARGEST_REQUEST: usize = 4 * LONGEST_CSR;
/// As many certificates as an answer may have, of ordinary size, have a tenth of this.
const LARGEST_RESPONSE: usize = 1 << 20;

/// The side of the sidecar.
#[derive(Clone, Debug)]
pub struct Client<T>(tonic::client::Grpc<T>);

impl<T> Client<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    pub fn new(channel: T) -> Client<T> {
        let grpc = tonic::client::Grpc::new(channel);
        Client(grpc.max_decoding_message_size(LARGEST_RESPONSE))
    }

    pub async fn sign(
        &mut self,
        mut request: Request<SignRequest>,
    ) -> Result<Response<SignResponse>, Status> {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(error.into().to_string()))?;
        let method = GrpcMethod::new(SERVICE, METHOD);
        request.extensions_mut().insert(method);
        let path = http::uri::PathAndQuery::from_static(PATH);
        self.0.unary(request, path, ProstCodec::default()).await
    }
}

/// The side of the control plane.
#[tonic::async_trait]
pub trait Service: Send + Sync + 'static {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status>;
}

/// Serves a [`Service`].
#[derive(Debug)]
pub struct Server<T>(Arc<T>);

impl<T> Server<T> {
    pub fn new(service: T) -> Server<T> {
        Server(Arc::new(service))
    }
}

impl<T> Clone for Server<T> {
    fn clone(&self) -> Server<T> {
        Server(Arc::clone(&self.0))
    }
}

impl<T> tonic::server::NamedService for Server<T> {
    const NAME: &'static str = SERVICE;
}

struct Sign<T>(Arc<T>);

impl<T: Service> tonic::server::UnaryService<SignRequest> for Sign<T> {
    type Response = SignResponse;
    type Future = BoxFuture<Response<SignResponse>, Status>;

    fn call(&mut self, request: Request<SignRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.sign(request).await })
    }
}

impl<T, B> tonic::codegen::Service<http::Request<B>> for Server<T>
where
    T: Service,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let sign = Sign(Arc::clone(&self.0));
        Box::pin(async move {
            if request.uri().path() != PATH {
                let status = Status::unimplemented("this service has one method, Sign");
                return Ok(status.into_http());
            }
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default())
                .apply_max_message_size_config(Some(LARGEST_REQUEST), None);
            Ok(grpc.unary(sign, request).await)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    #[tonic::async_trait]
    impl Service for Echo {
        async fn sign(
            &self,
            request: Request<SignRequest>,
        ) -> Result<Response<SignResponse>, Status> {
            let csr = request.into_inner().csr;
            Ok(Response::new(SignResponse {
                chain: vec![csr],
                ..SignResponse::default()
            }))
        }
    }

    #[tokio::test]
    async fn what_a_sidecar_asks_is_answered() {
        let mut client = Client::new(Server::new(Echo));
        let request = SignRequest { csr: vec![1, 2, 3] };
        let answer = client.sign(Request::new(request)).await.unwrap();
        assert_eq!(answer.into_inner().chain, [[1, 2, 3]]);
    }

    #[tokio::test]
    async fn a_request_that_is_larger_than_any_is_not_read() {
        let mut client = Client::new(Server::new(Echo));
        let csr = vec![0; LARGEST_REQUEST + 1];
        let refused = client.sign(Request::new(SignRequest { csr })).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::OutOfRange);
    }

    #[test]
    fn the_path_is_that_of_the_service_and_its_method() {
        assert_eq!(PATH, format!("/{SERVICE}/{METHOD}"));
    }
}
