{{/* The container of Intel's aesmd. Only this container gets the devices and the EPC that is set aside.
Called with (dict "root" $ "platform" NAME). */}}
{{- define "confcom.aesmd" -}}
{{- $values := .root.Values.quoteHelper.aesmd }}
- name: aesmd
  {{- include "confcom.image" (dict "root" .root "image" $values.image) | nindent 2 }}
  restartPolicy: Always # a sidecar: it is there before the helper, and ends after it
  args:
  - --no-daemon
  - --no-syslog
  - --supported_attestation_types=ECDSA # it then ends if it cannot load the quoting enclave, in place of refusing for ever
  env: {{- include "confcom.collateralEnv" .root | trim | nindent 2 }}
  livenessProbe:
    exec:
      command:
      - sh
      - -c
      - |
        {{- include "confcom.aesmdProbe" . | nindent 8 }}
    periodSeconds: 2 # a lost enclave ends by this alone, and clients wait for 12 s
    timeoutSeconds: 10
    failureThreshold: 3 # in a row, since a shell that is slow to start counts as well
    terminationGracePeriodSeconds: 5 # what hangs does not end by itself
  resources:
    {{- with $values.resources.requests }}
    requests: {{- toYaml . | nindent 6 }}
    {{- end }}
    limits:
      {{- with $values.resources.limits }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      # Limits: EPC (from the part that the device plugin sets aside), and the provision device, which quoting needs.
      # The helper's Pod stays Pending until the kubelet has reported both resources.
      {{ include "confcom.resource" (dict "root" .root "platform" .platform "kind" "helper") }}: {{ .root.Values.quoteHelper.epcMiB | quote }}
      {{ include "confcom.resource" (dict "root" .root "platform" .platform "kind" "provision") }}: "1"
  securityContext:
    {{- include "confcom.hardening" . | nindent 4 }}
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    capabilities: {drop: [ALL]}
  volumeMounts:
  - {name: aesmd-private, mountPath: /var/run/aesmd} # compiled in; the helper has this volume at another path
  {{- include "confcom.collateralMounts" .root | nindent 2 }}
{{- end }}

{{/* A probe that fails only if the helper has requested aesmd's restart within the last two minutes.
The request must be for this instance of aesmd. The probe passes if aesmd is slow or the helper is down. */}}
{{- define "confcom.aesmdProbe" -}}
cd /var/run/aesmd && [ -e restart-requested ] || exit 0
[ $(($(date +%s) - $(stat -c %Y restart-requested))) -gt 120 ] || [ "$(cat restart-requested)" != "$(stat -c '%i %Z' aesm.socket)" ]
{{- end }}
