// Providers and states of their connections, in words.

const PROVIDERS = {
  dexcom: {
    name: "Dexcom",
    needs: "You log in at Dexcom and allow access there. Your password never reaches this service. " +
      "Dexcom may show readings up to an hour late in the United States, up to three hours elsewhere.",
    regions: [
      ["us", "United States"],
      ["ou", "Outside the United States"],
      ["jp", "Japan"],
    ],
  },
};

const STATES = {
  none: ["Not connected", ""],
  connecting: ["Login not finished", "Nothing is read until the login has succeeded. You can start it again."],
  active: ["Connected", "New readings are fetched as they appear."],
  paused: ["Paused", "Nothing is fetched until you resume. Stored readings stay."],
  reauthorization_required: ["New login needed", "The provider no longer accepts the login. Connect again to continue; stored readings stay."],
  provider_forbidden: ["Refused by the provider", "The provider forbids this service to read. The operator of this service must resolve this. Until then it polls every six hours."],
  disconnected: ["Disconnected", "Nothing is fetched and the login is deleted. Stored readings stay."],
};

const OUTCOMES = {
  read: "new readings",
  nothing_new: "nothing new",
  throttled: "the provider asked for fewer calls",
  budget_spent: "waiting for the call limit",
  unavailable: "the provider did not answer",
  misbehaved: "the provider's answer was unreadable",
  forbidden: "the provider forbids this service to read",
  refused: "the provider refused the login",
};

/** Providers that every service offers, by the name that their routes have. */
export const OFFERED = Object.keys(PROVIDERS);

/** Name, needs and regions of a provider. A provider without an entry keeps its own name. */
export function describeProvider(provider) {
  return Object.hasOwn(PROVIDERS, provider) ? PROVIDERS[provider] : { name: provider, needs: "", regions: [] };
}

/** Title and explanation of a state. */
export function describeState(state) {
  return Object.hasOwn(STATES, state) ? STATES[state] : [spaced(state), ""];
}

export function describeOutcome(outcome) {
  return Object.hasOwn(OUTCOMES, outcome) ? OUTCOMES[outcome] : spaced(outcome);
}

export function describeRegion(provider, region) {
  return describeProvider(provider).regions.find(([value]) => value === region)?.[1] ?? region;
}

/** Requests that a state allows, as the controls of a card. */
export function actionsOf(state) {
  switch (state) {
    case "active": return ["poll", "pause", "disconnect"];
    case "paused": return ["resume", "disconnect"];
    case "provider_forbidden": return ["connect", "poll", "pause", "disconnect"];
    case "reauthorization_required": return ["connect", "disconnect"];
    case "none": case "connecting": case "disconnected": return ["connect"];
    default: return ["disconnect"];
  }
}

function spaced(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
