//! Answers of `/v1/responses`.

use halfbyte::generate::Usage;
use serde_json::{Map, Value, json};

use super::stream::{Events, Line, Moment};
use super::{Answer, n_values_of_text};
use crate::engine::Event;
use crate::error::ApiError;
use crate::wire::{
    IncompleteDetails, InputDetails, OutputDetails, ResponseEvent, ResponseItem, ResponseObject,
    ResponsePart, ResponseUsage,
};

/// What is known of an answer before it is written.
#[derive(Clone, Debug)]
pub(crate) struct ResponseShape {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: u64,
    pub(crate) instructions: Option<String>,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
}

impl ResponseShape {
    fn object(&self, status: &'static str, output: Vec<ResponseItem>) -> ResponseObject {
        let incomplete = IncompleteDetails { reason: "max_output_tokens" };
        ResponseObject {
            id: self.id.clone(),
            object: "response",
            created_at: self.created,
            status,
            incomplete_details: Some(incomplete).filter(|_| status == "incomplete"),
            error: None,
            instructions: self.instructions.clone(),
            model: self.name.clone(),
            output,
            parallel_tool_calls: false,
            temperature: self.temperature,
            top_p: self.top_p,
            tool_choice: "none",
            tools: Vec::new(),
            metadata: Map::new(),
            usage: None,
        }
    }

    fn item_id(&self) -> String {
        self.id.replacen("resp", "msg", 1)
    }

    fn item(&self, status: &'static str, content: Vec<ResponsePart>) -> ResponseItem {
        ResponseItem { kind: "message", id: self.item_id(), status, role: "assistant", content }
    }
}

fn part(text: &str) -> ResponsePart {
    let text = text.to_owned();
    ResponsePart { kind: "output_text", text, annotations: Vec::new(), logprobs: Vec::new() }
}

fn status(finish: &str) -> &'static str {
    if finish == "length" { "incomplete" } else { "completed" }
}

fn usage(usage: Usage) -> ResponseUsage {
    ResponseUsage {
        input_tokens: usage.prompt_tokens,
        input_tokens_details: InputDetails { cached_tokens: usage.reused_tokens },
        output_tokens: usage.new_tokens,
        output_tokens_details: OutputDetails { reasoning_tokens: 0 },
        total_tokens: usage.prompt_tokens + usage.new_tokens,
    }
}

/// The answer in one.
pub(crate) fn whole_response(shape: &ResponseShape, answer: &Answer) -> ResponseObject {
    let status = status(answer.finish);
    let object = shape.object(status, vec![shape.item(status, vec![part(&answer.text)])]);
    ResponseObject { usage: Some(usage(answer.usage)), ..object }
}

/// The answer in a stream.
#[derive(Debug)]
pub(crate) struct ResponseEvents {
    shape: ResponseShape,
    answer: Answer,
    n_events: usize,
    is_done: bool,
}

impl ResponseEvents {
    pub(crate) fn new(shape: ResponseShape) -> Self {
        Self { shape, answer: Answer::default(), n_events: 0, is_done: false }
    }

    fn event(&mut self, kind: &'static str, fields: Value) -> Line {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let event = ResponseEvent { kind, sequence_number: self.n_events, fields };
        self.n_events += 1;
        Line::named(kind, &event)
    }

    /// An event about the one part of the one message.
    fn part_event(&mut self, kind: &'static str, name: &str, value: Value) -> Line {
        let mut fields = json!({
            "item_id": self.shape.item_id(), "output_index": 0, "content_index": 0,
        });
        fields[name] = value;
        if name != "part" {
            fields["logprobs"] = json!([]);
        }
        self.event(kind, fields)
    }
}

impl Events for ResponseEvents {
    fn begin(&mut self) -> Vec<Line> {
        let object = self.shape.object("in_progress", Vec::new());
        let item = self.shape.item("in_progress", Vec::new());
        vec![
            self.event("response.created", json!({ "response": object })),
            self.event("response.in_progress", json!({ "response": object })),
            self.event("response.output_item.added", json!({ "output_index": 0, "item": item })),
            self.part_event("response.content_part.added", "part", json!(part(""))),
        ]
    }

    fn on(&mut self, event: Event) -> Vec<Line> {
        match event {
            Event::Piece { piece, .. } if !piece.text.is_empty() => {
                self.answer.text.push_str(&piece.text);
                vec![self.part_event("response.output_text.delta", "delta", piece.text.into())]
            }
            Event::Tail { text, .. } => {
                self.answer.text.push_str(&text);
                vec![self.part_event("response.output_text.delta", "delta", text.into())]
            }
            Event::Done { finish, usage, .. } => {
                (self.answer.finish, self.answer.usage) = (finish, usage);
                self.is_done = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn fail(&mut self, error: &ApiError) -> Vec<Line> {
        let error = error.body().error;
        let fields = json!({ "code": error.code, "message": error.message, "param": error.param });
        vec![self.event("error", fields)]
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn n_values(&self, moment: &Moment) -> usize {
        match moment {
            // The text comes four times.
            Moment::End => 4 * n_values_of_text(self.answer.text.len()),
            _ => 0,
        }
    }

    fn end(&mut self) -> Vec<Line> {
        let (text, status) = (self.answer.text.clone(), status(self.answer.finish));
        let item = self.shape.item(status, vec![part(&text)]);
        let whole = whole_response(&self.shape, &self.answer);
        let last = if status == "completed" { "response.completed" } else { "response.incomplete" };
        vec![
            self.part_event("response.output_text.done", "text", text.as_str().into()),
            self.part_event("response.content_part.done", "part", json!(part(&text))),
            self.event("response.output_item.done", json!({ "output_index": 0, "item": item })),
            self.event(last, json!({ "response": whole })),
        ]
    }
}
