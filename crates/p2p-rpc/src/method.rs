//! Methods, registered with what they take and give, so that the OpenRPC document follows from the code.

use std::{sync::Arc, time::Instant};

use jsonrpsee::{
    ResponsePayload, RpcModule,
    core::RegisterMethodError,
    server::Methods,
    types::{ErrorObjectOwned, Params},
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    backpressure::InFlight,
    failure::{Code, Failure},
    metrics,
    node::Node,
};

/// What a method takes: an array of at most one element.
pub(crate) trait Parameters: Sized + Send + 'static {
    /// Reads what a call has.
    fn read(params: &Params<'_>) -> Result<Self, Failure>;

    /// The parameters, as OpenRPC describes them.
    fn describe(generator: &mut SchemaGenerator) -> Vec<Value>;
}

/// Nothing: an empty array, or none.
impl Parameters for () {
    fn read(params: &Params<'_>) -> Result<Self, Failure> {
        match params.parse::<Option<[Value; 0]>>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::new(Code::InvalidParams, "this method takes no parameters")),
        }
    }

    fn describe(_: &mut SchemaGenerator) -> Vec<Value> {
        Vec::new()
    }
}

/// An array of exactly one element.
pub(crate) struct One<T>(pub(crate) T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Parameters for One<T> {
    fn read(params: &Params<'_>) -> Result<Self, Failure> {
        read_one(params.as_str().unwrap_or_default()).map(Self)
    }

    fn describe(generator: &mut SchemaGenerator) -> Vec<Value> {
        vec![describe::<T>(generator, true)]
    }
}

/// One element, or none.
pub(crate) struct Maybe<T>(pub(crate) Option<T>);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Parameters for Maybe<T> {
    fn read(params: &Params<'_>) -> Result<Self, Failure> {
        if <() as Parameters>::read(params).is_ok() {
            return Ok(Self(None));
        }
        One::read(params).map(|One(given)| Self(Some(given)))
    }

    fn describe(generator: &mut SchemaGenerator) -> Vec<Value> {
        vec![describe::<T>(generator, false)]
    }
}

/// Reads an array of exactly one element.
fn read_one<T: DeserializeOwned>(json: &str) -> Result<T, Failure> {
    let [one] = serde_json::from_str::<[T; 1]>(json).map_err(|error| {
        Failure::new(
            Code::InvalidParams,
            format_args!("the parameters are not an array of one valid element: {error}"),
        )
    })?;
    Ok(one)
}

fn describe<T: JsonSchema>(generator: &mut SchemaGenerator, required: bool) -> Value {
    json!({ "name": T::schema_name(), "required": required, "schema": generator.subschema_for::<T>() })
}

/// What a method is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// Beside those of any call.
    pub(crate) errors: &'static [Code],
}

/// Collects methods, and describes them.
pub(crate) struct Registry {
    /// None where they are only described.
    module: Option<RpcModule<Node>>,
    generator: SchemaGenerator,
    described: Vec<Value>,
}

impl Registry {
    /// Collects methods of a node; without one it only describes them.
    pub(crate) fn new(node: Option<Arc<Node>>) -> Self {
        let settings = SchemaSettings::draft07()
            .with(|settings| settings.definitions_path = "/components/schemas".into());
        Self {
            module: node.map(RpcModule::from_arc),
            generator: settings.into_generator(),
            described: Vec::new(),
        }
    }

    /// Adds a method.
    pub(crate) fn method<P, R, F, Fut>(&mut self, about: About, call: F) -> Result<(), RegisterMethodError>
    where
        P: Parameters,
        R: Serialize + JsonSchema + Clone + Send + 'static,
        F: Fn(Arc<Node>, P) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        self.describe::<P, R>(about);
        let Some(module) = &mut self.module else { return Ok(()) };
        module.register_async_method(about.name, move |params, node, extensions| {
            let (call, begun) = (call.clone(), Instant::now());
            let in_flight = extensions.get::<InFlight>().map(InFlight::begin);
            async move {
                let answer = match P::read(&params) {
                    Ok(given) => {
                        drop(params);
                        call(node, given).await
                    }
                    Err(failure) => Err(failure),
                };
                let outcome = answer.as_ref().map_or_else(|failure| failure.code.label(), |_| "ok");
                metrics::answered(about.name, outcome, begun.elapsed());
                let answer = match answer {
                    Ok(result) => ResponsePayload::success(result),
                    Err(failure) => ResponsePayload::error(ErrorObjectOwned::from(failure)),
                };
                let Some(in_flight) = in_flight else { return answer };
                let (answer, sent) = answer.notify_on_completion();
                tokio::spawn(async move {
                    // On its way, or its connection is gone.
                    let _taken = sent.await.is_ok();
                    drop(in_flight);
                });
                answer
            }
        })?;
        Ok(())
    }

    /// Describes a method that is registered otherwise.
    pub(crate) fn describe<P: Parameters, R: JsonSchema>(&mut self, about: About) {
        let About { name, summary, errors } = about;
        let errors: Vec<_> = [Code::InvalidParams, Code::Internal]
            .iter()
            .chain(errors)
            .map(|code| json!({ "code": code.number(), "message": code.meaning() }))
            .collect();
        self.described.push(json!({
            "name": name,
            "summary": summary,
            "paramStructure": "by-position",
            "params": P::describe(&mut self.generator),
            "result": { "name": R::schema_name(), "schema": self.generator.subschema_for::<R>() },
            "errors": errors,
        }));
    }

    /// Where methods are registered that are no simple calls.
    pub(crate) const fn module(&mut self) -> Option<&mut RpcModule<Node>> {
        self.module.as_mut()
    }

    /// The methods and their schemas, as OpenRPC has them.
    pub(crate) fn described(&mut self) -> (Vec<Value>, Value) {
        let schemas = self.generator.take_definitions(true);
        (std::mem::take(&mut self.described), Value::Object(schemas))
    }

    /// What a server serves.
    pub(crate) fn into_methods(self) -> Methods {
        self.module.map(Methods::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params<P: Parameters>(json: Option<&str>) -> Result<P, Failure> {
        P::read(&Params::new(json))
    }

    #[test]
    fn one_parameter_is_an_array_of_exactly_one() {
        assert_eq!(params::<One<u8>>(Some("[7]")).unwrap().0, 7);
        for bad in [None, Some("[]"), Some("[7,8]"), Some("{\"a\":7}"), Some("7"), Some("null"), Some("[-1]")]
        {
            assert_eq!(params::<One<u8>>(bad).err().unwrap().code, Code::InvalidParams, "{bad:?}");
        }
    }

    #[test]
    fn no_parameters_are_an_empty_array_or_none() {
        for good in [None, Some("[]"), Some("null"), Some(" [ ] ")] {
            assert!(params::<()>(good).is_ok(), "{good:?}");
            assert_eq!(params::<Maybe<u8>>(good).unwrap().0, None);
        }
        for bad in ["[1]", "{}", "[null]"] {
            assert!(params::<()>(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(params::<Maybe<u8>>(Some("[3]")).unwrap().0, Some(3));
        assert!(params::<Maybe<u8>>(Some("[3,4]")).is_err());
    }
}
