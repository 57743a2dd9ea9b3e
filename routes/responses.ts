import { ApiErrorSchema, ref } from '../schemas/common.ts'

const error = ref(ApiErrorSchema)

/** The error responses that every route of a user's session can give. */
export const sessionErrors = {
  400: error,
  401: error,
  403: error,
  404: error,
  429: error,
  500: error,
  502: error,
  503: error,
  504: error
}

/** And those of routes about files. */
export const fileErrors = { ...sessionErrors, 412: error, 413: error, 416: error }
