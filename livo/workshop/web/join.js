// Where a class arrives: the code of its room, and nothing else.
import { $, el, show } from "./dom.js";
import { joinForm } from "./join_form.js";
import { say } from "./language.js";

$("title").textContent = "LiVO workshop";
show(el("div", { class: "card narrow arriving" }, el("h1", {}, say("Join")),
  el("p", { class: "lead" }, say("Type the six letters that the screen shows. No account, and no name.")), joinForm()));
$("code").focus();
