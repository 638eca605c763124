// Arguments: address, key, targetingKey. Writes what OpenFeature's client makes of each flag, one a line.
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";

const [baseUrl, key, targetingKey] = process.argv.slice(1);
await OpenFeature.setProviderAndWait(
  new OFREPProvider({ baseUrl, headers: [["Authorization", `Bearer ${key}`]] }),
);
const client = OpenFeature.getClient();
const context = { targetingKey };
const write = ({ reason, variant, errorCode }, value) => console.log(value, reason, variant ?? errorCode);

const model = await client.getStringDetails("llm.chat.model", "fallback", context);
write(model, model.value);
for (const name of ["temperature", "max_tokens"]) {
  const number = await client.getNumberDetails(`llm.chat.${name}`, -1, context);
  write(number, String(number.value));
}
const config = await client.getObjectDetails("llm.chat.config", {}, context);
write(config, config.value.model);
const unknown = await client.getStringDetails("llm.chat.color", "fallback", context);
write(unknown, unknown.value);
