// SPDX-License-Identifier: LGPL-2.1-or-later
import { FormGroup, FormHelperText, HelperText, HelperTextItem, TextInput } from "@patternfly/react-core";

interface Props {
  id: string;
  label: string;
  value: string;
  onChange: (value: string) => void;
  /** what is wrong with the value; shown once there is one, or after the field was left */
  wrong?: string;
  help?: string;
  type?: "text" | "password";
  required?: boolean;
  autoComplete?: string;
  first?: boolean;
}

export function Field({ id, label, value, onChange, wrong, help, type = "text", required, autoComplete = "off", first }: Props) {
  const shown = wrong !== undefined && value !== "";
  return (
    <FormGroup label={label} fieldId={id} isRequired={required}>
      <TextInput id={id} value={value} type={type} isRequired={required} autoComplete={autoComplete} spellCheck={false} autoFocus={first}
        validated={shown ? "error" : "default"} aria-describedby={`${id}-help`} onChange={(_event, next) => onChange(next)} />
      <FormHelperText>
        <HelperText id={`${id}-help`} aria-live="polite">
          {shown ? <HelperTextItem variant="error">{wrong}</HelperTextItem> : help ? <HelperTextItem>{help}</HelperTextItem> : null}
        </HelperText>
      </FormHelperText>
    </FormGroup>
  );
}
